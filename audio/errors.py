"""The one exception that means «the user can fix this»."""


class InputError(ValueError):
    """Bad input met at a boundary: one clear line that names the culprit and what was allowed.

    Command-line entries print it as `error: …` and exit with code 2, without a traceback.
    Everything else that escapes is a bug of ours and keeps its traceback.
    """
