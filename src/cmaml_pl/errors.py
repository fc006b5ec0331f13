"""The one exception that is the user's to mend."""


class UserError(Exception):
    """Bad input: the message names the key or file, says what was expected and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
