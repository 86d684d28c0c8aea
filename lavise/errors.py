"""Every error that LaViSE raises on purpose.

LaviseError
├── InputError            what the caller sent is wrong (CLI exit status 2, INVALID_ARGUMENT, 400)
│   ├── ImageError        an image cannot be read or is over a limit
│   ├── RequestError      an option of a request is unknown or out of range
│   ├── SpecError         a CNN, word, vocabulary or dataset spec is wrong
│   └── DatasetError      a dataset has nothing that can be used
├── BundleError           a bundle is missing, damaged or too new (FAILED_PRECONDITION)
└── EnvironmentProblem    this machine lacks something: ONNX Runtime, Java, disk space

Each carries what it is about: ``field`` names the option, image or file, so that a door can
report it in its own form. The message says what was wrong and what is accepted.
"""


class LaviseError(Exception):
    """The root of every deliberate error.

    Args:
        message: What was wrong, and what is accepted.
        field: The option, image, or file that the error is about, when there is one.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InputError(LaviseError):
    """What the caller sent is wrong; sending it again will not help."""


class ImageError(InputError):
    """An image cannot be read, or is over a limit."""


class RequestError(InputError):
    """An option of a request is unknown or out of range."""


class SpecError(InputError):
    """A CNN, word, vocabulary or dataset spec is wrong."""


class DatasetError(InputError):
    """A dataset has nothing that can be used."""


class BundleError(LaviseError):
    """A bundle is missing, damaged, or written by a newer LaViSE."""


class EnvironmentProblem(LaviseError):  # noqa: N818 - "EnvironmentError" is a Python builtin
    """This machine lacks something that the work needs."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line: its name where it says nothing.

    Args:
        error: Any.

    Returns:
        The first line of its text that is not blank.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
