"""A card of the catalogue, where it lies, and the file that belongs to it."""

from dataclasses import dataclass
from pathlib import Path

from outcrop.errors import ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import Card, FileSource, UrlSource
from outcrop_zoo.files import sha256
from outcrop_zoo.folders import BUNDLED, download_folder


@dataclass(frozen=True)
class Entry:
    """A card and where it lies."""

    card: Card
    path: Path

    @property
    def model_path(self) -> Path | None:
        """Where the model's file should be, or None where it has none of its own."""
        if isinstance(self.card.source, FileSource):
            return self.path.parent / self.card.source.file
        if isinstance(self.card.source, UrlSource):
            # By content: a newer card of the same name has another file.
            return download_folder() / f"{self.card.name}-{str(self.card.sha256)[:16]}.onnx"
        return None

    def checked_model_path(self, *, progress: Progress = silent) -> Path:
        """Return the path of the model's file after comparing its content with the card; one of the web is fetched.

        Raises:
            ModelNotFoundError: It cannot be fetched.
            ZooError: The file is missing, lies elsewhere, or its sha256 is not the card's; or it has none.
        """
        path, source = self.model_path, self.card.source
        if path is None:
            raise ZooError(
                f"The zoo model {self.card.name!r} is not a file (its source is a {source.kind}); "
                f"run 'outcrop zoo export zoo:{self.card.name}' to make one."
            )
        if isinstance(source, UrlSource):
            from outcrop_zoo.sources.url import fetch

            return fetch(source.url, path, sha256=self.card.sha256, size=self.card.size, progress=progress)
        if not path.is_file():
            raise ZooError(f"The file of zoo model {self.card.name!r} is missing: {path}. {self._remedy}")
        self._check_link(path)
        found = sha256(path)
        if found != self.card.sha256:
            raise ZooError(
                f"The file {path} of zoo model {self.card.name!r} is not the one on its card: sha256 {found}, "
                f"expected {self.card.sha256}. {self._remedy}"
            )
        return path

    def _check_link(self, path: Path) -> None:
        """Refuse a link that leads out of the folder.

        Installers may lay links for every file of a package: then the card's own leads to the same place.
        """
        place = path.resolve()
        if place.parent not in {self.path.parent.resolve(), self.path.resolve().parent}:
            raise ZooError(
                f"The file {path} of zoo model {self.card.name!r} is a link to {place}, outside the card's folder. "
                "Put the file itself there, or run 'outcrop zoo add' on it."
            )

    @property
    def _remedy(self) -> str:
        if self.path.parent == BUNDLED:
            return "Reinstall outcrop."
        if self.card.recipe is not None:
            folder = self.path.parent
            return f"Run 'outcrop zoo build {self.card.recipe.name} --folder {folder} --force' to make it again."
        return f"Restore the file, or remove the card {self.path}."
