"""A bucket that is a folder of this machine, under paths that are `gs://` to all who use them."""

from etils.epath import backend, gpath


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
