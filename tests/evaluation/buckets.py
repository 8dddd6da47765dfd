"""A bucket that is a folder of this machine, under paths that are `gs://` to all who use them."""

import threading
import time

from etils.epath import backend, gpath
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class FolderBackend:
    """What `epath` asks of a bucket, answered by a folder."""

    def __init__(self, url, folder):
        self._url, self._folder = url, str(folder)

    def __getattr__(self, name):
        method = getattr(backend.os_backend, name)

        def call(*paths, **kwargs):
            local = (path.replace(self._url, self._folder) for path in paths)
            found = method(*local, **kwargs)
            if name == "glob":
                return [place.replace(self._folder, self._url) for place in found]
            return found

        return call


def mount(monkeypatch, url, folder):
    """Lets `url` stand for `folder` in every path."""
    bucket = FolderBackend(url, folder)
    monkeypatch.setattr(
        gpath._GPath,
        "_backend",
        property(lambda path: bucket if path._uri_scheme else backend.os_backend),
    )


class Served(DirFileSystem):
    """A folder behind fsspec, as a bucket's client is, that counts what it is asked for.

    Attributes:
        parts: length of each part of a file that was asked for.
        most: requests for parts that were under way at a time.
        seconds: that each takes.
    """

    cachable = False

    def __init__(self, url, folder):
        super().__init__(str(folder), LocalFileSystem())
        self._url, self._lock, self._now = url, threading.Lock(), 0
        self.parts, self.most, self.seconds = [], 0, 0.0

    def _join(self, path):
        return super()._join(str(path).removeprefix(self._url).strip("/"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.parts.append(end - start)
        time.sleep(self.seconds)
        try:
            return super().cat_file(path, start=start, end=end, **kwargs)
        finally:
            with self._lock:
                self._now -= 1


def serve(monkeypatch, url, folder):
    """Lets `url` stand for `folder` by epath's own way through fsspec; returns what serves it."""
    served = Served(url, folder)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: served)
    return served
