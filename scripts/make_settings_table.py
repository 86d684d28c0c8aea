"""Writes docs/settings.md from the settings themselves; a test keeps it fresh."""

from pathlib import Path

from lavise_service.companion.settings import settings_table

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings of the companion

`lavise serve` and the container image read these variables of the environment. A value that is
not accepted stops the start with a message that names the variable. Sizes may be written with a
unit (`20MiB`). Credentials of S3 are not among them: they are read from the usual `AWS_*`
variables.

Addresses beyond loopback are refused until tokens, client certificates or
`LAVISE_ALLOW_ANONYMOUS=true` say who may ask.

"""


def main() -> None:
    """Writes the page."""
    PAGE.write_text(HEAD + settings_table(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
