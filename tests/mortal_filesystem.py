"""A filesystem whose process dies at a step of one's choice, as under kill -9.

After that step nothing is done any more, by nobody: no clean-up, no closing of files. A file that
was being written is left half-written where the filesystem does that (local), or not at all (S3,
where an object appears when its upload ends).
"""

from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs


class Killed(BaseException):
    """The process died here."""


class _File:
    """What pyarrow writes to, in three steps or more: open, each write, close."""

    closed = False

    def __init__(self, filesystem: "MortalFilesystem", path: str) -> None:
        self._mortal, self._path = filesystem, path
        self._content = b""
        filesystem.step()
        self._put()

    def write(self, data: Any) -> int:
        piece = bytes(data)
        try:
            self._mortal.step()
        except Killed:
            self._content += piece[: len(piece) // 2]
            self._put()
            raise
        self._content += piece
        self._put()
        return len(piece)

    def flush(self) -> None:
        pass

    def tell(self) -> int:
        return len(self._content)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._mortal.step()
            self._put(complete=True)

    def _put(self, *, complete: bool = False) -> None:
        if complete or self._mortal.leaves_halves:
            with self._mortal.inner.open_output_stream(self._path) as stream:
                stream.write(self._content)


class MortalFilesystem(pafs.FileSystemHandler):  # type: ignore[misc]
    """Passes everything on to another filesystem until it dies.

    Args:
        inner: The real one.
        dies_at: At which step, from 1; 0 for never.
        leaves_halves: Whether files that are being written can be seen.
    """

    def __init__(self, inner: Any, dies_at: int = 0, *, leaves_halves: bool = True) -> None:
        self.inner, self.dies_at, self.leaves_halves = inner, dies_at, leaves_halves
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.dies_at and self.steps >= self.dies_at:
            raise Killed

    def get_type_name(self) -> str:
        return "mortal"

    def get_file_info(self, paths: list[str]) -> Any:
        self.step()
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self.step()
        return self.inner.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: FBT001 - pyarrow's own
        self.step()
        self.inner.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        """File by file: a process may die in the middle."""
        for info in self.inner.get_file_info(pafs.FileSelector(path, recursive=True)):
            if info.type == pafs.FileType.File:
                self.step()
                self.inner.delete_file(info.path)
        self.step()
        self.inner.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - pyarrow's own
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self.step()
        self.inner.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self.step()
        self.inner.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def open_input_stream(self, path: str) -> Any:
        self.step()
        return self.inner.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        self.step()
        return self.inner.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:  # noqa: ARG002 - pyarrow's own
        return pa.PythonFile(_File(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError

    def normalize_path(self, path: str) -> str:
        return str(self.inner.normalize_path(path))
