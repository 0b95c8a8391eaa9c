"""The run directory: every artifact of a run, on any pyarrow filesystem."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from paft_ray.credentials import holds_credentials
from paft_ray.errors import StorageError, UserError, one_line
from paft_ray.files import parquet
from paft_ray.files.uris import split_uri
from paft_ray.sanitize import holds_hidden

_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "make it writable again",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
}
LARGEST_JSON = 2**26
"""Most bytes of a manifest or configuration of a run."""


def json_bytes(value: Any) -> bytes:
    """A JSON file."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def table_bytes(table: pa.Table, dictionaries: Sequence[str] | None = None) -> bytes:
    """A table as a Parquet file, with a checksum of each page. `dictionaries`: columns whose values repeat; None: all
    may."""
    sink = pa.BufferOutputStream()
    named = True if dictionaries is None else list(dictionaries)
    pq.write_table(table, sink, write_page_checksum=True, compression="zstd", use_dictionary=named)
    return bytes(sink.getvalue().to_pybytes())


class Store:
    """One run's directory; paths are relative to it, with forward slashes."""

    def __init__(self, root: str) -> None:
        """`root`: local path or URI, with pyarrow's options behind a `?` (such as `endpoint_override`); credentials
        come from the environment.

        Raises `UserError` for a URI no filesystem knows."""
        if holds_credentials(root):
            raise UserError(
                "storage: the URI holds credentials, which would be stored with the run; give them in the "
                "environment (e.g. AWS_ACCESS_KEY_ID)"
            )
        if re.match(r"\w+:/(?!/)", root) or re.fullmatch(r"\w+:/*", root):
            raise UserError(
                f"storage {root}: neither a folder nor a URI; write s3://bucket/prefix, or ./{root} for a folder "
                "of that name"
            )
        try:
            self.root = root if "://" in root else str(Path(root).expanduser().resolve())
            self.filesystem, base = pafs.FileSystem.from_uri(self.root)
        # Of Path: a NUL, a loop of links, an unknown user.
        except (pa.ArrowInvalid, OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"storage {root}: {one_line(error)}; give a folder or a URI such as s3://bucket/prefix"
            ) from None
        if "://" in root and (holds_hidden(base) or "\n" in base):
            raise UserError(
                f"storage {root}: the URI stands for a name with a character that does not show ({base!a}); give "
                "a name without it"
            )
        self._base = base.rstrip("/")
        self.is_local = isinstance(self.filesystem, pafs.LocalFileSystem)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        """Another process opens the place by itself: no credentials travel."""
        return Store, (self.root,)

    @classmethod
    def open(cls, storage: str, name: str) -> Store:
        """The run `name` under `storage`, made if missing. Raises `UserError` where it cannot be written."""
        return cls.at(cls(storage).uri(name))

    @classmethod
    def at(cls, path: str) -> Store:
        """The folder or URI `path`, made if missing. Raises `UserError` where it cannot be written."""
        run = cls(path)
        try:
            run.write_json("run.json", {"name": run.name})
        except (StorageError, pa.ArrowInvalid) as error:
            raise UserError(f"{one_line(error)}; or choose another storage with --set storage=FOLDER") from None
        return run

    def below(self, relative: str) -> Store:
        """A folder of the run as one of its own."""
        return Store(self.uri(relative))

    @property
    def name(self) -> str:
        """Last part of the run's path."""
        return self._base.rsplit("/", 1)[-1]

    def path(self, relative: str) -> str:
        """Path inside `filesystem`. Raises `UserError` as `inside`."""
        return f"{self._base}/{self.inside(relative)}"

    def inside(self, relative: str) -> str:
        """The path as it is. Raises `UserError` for one that climbs out of the run, as a manifest from elsewhere might
        name it."""
        if ".." in relative.split("/"):
            raise UserError(
                f"run {self.root}: the path {relative!r} leads out of the run; was its manifest changed by hand?"
            )
        return relative

    def uri(self, relative: str) -> str:
        """Absolute path or URI of an artifact. Raises `UserError` as `inside`."""
        place, options = split_uri(self.root)
        return f"{place.rstrip('/')}/{self.inside(relative)}{options}"

    def exists(self, relative: str) -> bool:
        with self._telling(relative, "read"):
            return self.filesystem.get_file_info(self.path(relative)).type != pafs.FileType.NotFound

    def is_file(self, relative: str) -> bool:
        with self._telling(relative, "read"):
            return bool(self.filesystem.get_file_info(self.path(relative).rstrip("/")).type == pafs.FileType.File)

    def entries(self, relative: str = "") -> list[pafs.FileInfo]:
        """Entries of a folder; nothing where there is none."""
        with self._telling(relative, "read"):
            return list(
                self.filesystem.get_file_info(pafs.FileSelector(self.path(relative).rstrip("/"), allow_not_found=True))
            )

    def read_bytes(self, relative: str, *, largest: int | None = None) -> bytes:
        """Raises `FileNotFoundError` where there is none, `UserError` for a pipe or device, which would be waited for,
        and for more than `largest` bytes."""
        self._check_regular(relative)
        with self._telling(relative, "read"), self.filesystem.open_input_stream(self.path(relative)) as stream:
            data = bytes(stream.read(None if largest is None else largest + 1))
        if largest is not None and len(data) > largest:
            raise UserError(f"{self.uri(relative)}: more than {largest} bytes; delete it and run its stage again")
        return data

    def chunks(self, relative: str, size: int) -> Iterator[bytes]:
        """The content of a file, `size` bytes at a time. Raises as `read_bytes`."""
        self._check_regular(relative)
        with self._telling(relative, "read"), self.filesystem.open_input_stream(self.path(relative)) as stream:
            while chunk := stream.read(size):
                yield bytes(chunk)

    def _check_regular(self, relative: str) -> None:
        """Raises `UserError` for a local path that is a folder, a pipe or a device."""
        if not self.is_local:
            return
        with self._telling(relative, "read"):
            info = self.filesystem.get_file_info(self.path(relative))
        if info.type not in (pafs.FileType.File, pafs.FileType.NotFound):
            raise UserError(f"run {self.root}: {info.path} is not a regular file; delete it and run its stage again")

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Writes all or nothing, as `write_chunks`."""
        self.write_chunks(relative, [data])

    def write_chunks(self, relative: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Writes a file piece by piece, all or nothing: to a neighbor first, then moved (object stores do so by
        themselves, and know no folders; there an error in `chunks` removes what the file was before, too).

        A process that is killed leaves what was there before; a machine that loses power may leave less, since nothing
        waits for the disk."""
        with self._telling(relative, "written"):
            if not self.is_local:
                try:
                    with self.filesystem.open_output_stream(self.path(relative)) as stream:
                        for chunk in chunks:
                            stream.write(chunk)
                except BaseException:
                    with suppress(OSError):
                        self.filesystem.delete_file(self.path(relative))  # leaving the block has completed it
                    raise
                return
            target = Path(self.path(relative))
            # No process number: hosts that share the folder may have the same one.
            part = f"{target}.{uuid.uuid4().hex[:8]}.part"
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.filesystem.open_output_stream(part) as stream:
                    for chunk in chunks:
                        stream.write(chunk)
                os.replace(part, target)
            finally:
                with suppress(OSError):
                    os.unlink(part)

    def read_json(self, relative: str) -> Any:
        """Raises `UserError` where the file is not JSON."""
        try:
            return json.loads(self.read_bytes(relative, largest=LARGEST_JSON))
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.uri(relative)}: not JSON ({error}); delete it and run its stage again") from None

    def write_json(self, relative: str, value: Any) -> None:
        self.write_bytes(relative, json_bytes(value))

    def read_table(self, relative: str, matches: Callable[[pa.Schema], bool] = parquet.holds_plain) -> pa.Table:
        """An Arrow table from a Parquet file whose schema `matches`. Raises `UserError` where there is no such
        table."""
        self._check_regular(relative)
        try:
            with self._telling(relative, "read"):
                return parquet.read_table(self.path(relative), matches=matches, filesystem=self.filesystem)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{self.uri(relative)}: not Parquet ({one_line(error)[:200]}); delete it and run its stage again"
            ) from None
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise UserError(
                f"{self.uri(relative)}: not the table that belongs there ({one_line(error)[:200]}); delete it "
                "and run its stage again"
            ) from None

    def write_table(self, relative: str, table: pa.Table) -> None:
        self.write_bytes(relative, table_bytes(table))

    def upload_dir(self, local: str | Path, relative: str) -> None:
        """Copies a local folder into the run, in place of what is there. File by file: what vouches for all of it is
        written after it."""
        self.delete(relative)
        # Threads of an upload to S3 wait for each other where there are few cores (arrow issue 32372, as Ray Train has
        # it).
        source = pafs.LocalFileSystem()
        with self._telling(relative, "written"):
            if self.is_local:
                self.filesystem.create_dir(self.path(relative), recursive=True)
            pafs.copy_files(
                str(local),
                self.path(relative),
                source_filesystem=source,
                destination_filesystem=self.filesystem,
                use_threads=self.is_local,
            )

    def check_plain(self, relative: str) -> None:
        """Raises `UserError` for a link or a special file in a folder, or on the way to it: it may lead out of the run,
        or nowhere."""
        if self.is_local and (odd := next(filter(_is_odd, self._with_parents(relative)), None)):
            raise UserError(
                f"run {self.root}: {odd.relative_to(self._base)} is a link or a special file; put the file itself there"
            )

    def _with_parents(self, relative: str) -> Iterator[Path]:
        """Everything in a local folder, the folder itself and those between it and the run."""
        folder = Path(self.path(relative))
        yield from (
            parent
            for parent in (folder, *folder.parents)
            if parent.is_relative_to(self._base) and str(parent) != self._base
        )
        yield from folder.rglob("*")

    def delete(self, relative: str) -> None:
        """Removes a file or folder if it is there; of a folder the manifest first, so that what an interrupted deletion
        leaves is not taken as finished."""
        with self._telling(relative, "deleted"), suppress(FileNotFoundError):  # another process was faster
            kind = self.filesystem.get_file_info(self.path(relative)).type
            if kind == pafs.FileType.Directory:
                self.delete(f"{relative}/manifest.json")
                self.filesystem.delete_dir(self.path(relative))
            elif kind == pafs.FileType.File:
                self.filesystem.delete_file(self.path(relative))

    @contextmanager
    def _telling(self, relative: str, done: str) -> Iterator[None]:
        """Raises what the storage answers as one line; a file that is missing where one is read stays a
        `FileNotFoundError`."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            if done == "read" and isinstance(error, FileNotFoundError):
                raise
            if done == "read" and error.errno == errno.ELOOP:  # a link to itself leads to no file
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), relative) from error
            reason = os.strerror(error.errno) if error.errno else one_line(error)[:300]
            remedy = _REMEDIES.get(
                error.errno or 0, "see that it is there and lets you in (credentials come from the environment)"
            )
            raise StorageError(f"storage {self.root}: {relative} cannot be {done} ({reason}); {remedy}") from error


def _is_odd(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir()))
