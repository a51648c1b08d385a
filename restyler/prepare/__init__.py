"""`restyler prepare`: users' raw takes and finished mixes → a training set of latents, with every file's fate told."""
