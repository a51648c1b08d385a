"""An editable effect chain fitted to a mix, and the raw take rendered through it."""
