"""What the launcher says when it cannot go on: one sentence, an exit code, no traceback."""


class LaunchError(Exception):
    """The message is the sentence that a person reads; a log's last lines may follow it."""


class StopRequested(Exception):
    """Ctrl-C, SIGTERM, SIGHUP, or the process we follow is gone."""
