"""Runs on the Hugging Face Hub: send one with a model card, and fetch one, checked. Nothing is sent but by `push`.

Needs huggingface_hub (the extra `hub`), which takes the token from HF_TOKEN or from `hf auth login`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vaelab import runs
from vaelab.errors import ConfigError, HubError, RunError, shortened
from vaelab.files import expect_room, new_folder
from vaelab.inference.model_card import REPORT, model_card
from vaelab.run_folder import check_new
from vaelab.version import __version__

FILES = (
    runs.CONFIG,
    runs.WEIGHTS,
    runs.METRICS,
    REPORT,
    *(f"{runs.FIGURES}/{name}.png" for name in ("training", "samples", "grid")),
)
"""The files of a run that are sent and fetched, if they are there. None shows an image of the user: reconstructions.png does."""

NEEDED = {runs.CONFIG, runs.WEIGHTS}

MAX_BYTES = 4 << 30
"""Largest size of the files that are fetched: a repository may be a stranger's."""


def expect_usable(name: str) -> None:
    """Raise a ConfigError unless `name` is OWNER/NAME, and a HubError unless huggingface_hub is installed."""
    if not re.fullmatch(r"\w[\w.-]{0,94}\w?/\w[\w.-]{0,94}", name, re.ASCII) or re.search(
        r"--|\.\.|[.-]$|\.git$", name
    ):
        raise ConfigError(
            f"{name}: not the name of a repository; expected OWNER/NAME, of letters, digits, '-', '_' and '.'"
        )
    if find_spec("huggingface_hub") is None:
        raise HubError('huggingface_hub is not installed; install it with pip install "vaelab[hub]"')


def push(folder: Path, name: str, *, private: bool = False, licence: str | None = None) -> str:
    """Send the files of a run and its model card to the repository `name` on the Hub, which is created, in one commit.

    Returns
    -------
    url
        Address of the repository.

    Raises
    ------
    RunError
        If there is no run, or it was changed.
    ConfigError
        If `name` is not OWNER/NAME, or with `private`, if the repository is public already.
    HubError
        If huggingface_hub is not installed, there is no token, or the Hub cannot be reached or refuses.
    """
    expect_usable(name)
    run = runs.open_run(folder)
    runs.weight_facts(run)
    files = tuple(file for file in FILES if (folder / file).is_file() and not (folder / file).is_symlink())
    card = model_card(run, name, files, licence=licence)
    hub = _hub()
    if hub.get_token() is None:
        raise HubError("no token for the Hugging Face Hub; type hf auth login, or set HF_TOKEN to one that may write")
    operations = [hub.CommitOperationAdd(file, str(folder / file)) for file in files]
    operations.append(hub.CommitOperationAdd("README.md", card.encode(errors="backslashreplace")))
    with _errors(name):
        api = hub.HfApi(library_name="vaelab", library_version=__version__)
        url = api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise ConfigError(f"`private`: {name} is public already; make it private on the Hub, or give another name")
        api.create_commit(name, operations, commit_message=f"Run of vaelab {__version__}")
    return str(url)


def pull(name: str, out: Path) -> runs.Run:
    """Fetch the run in the repository `name` into a new folder, which is whole and checked when it appears. It runs no code.

    Raises
    ------
    ConfigError
        If `name` is not OWNER/NAME.
    HubError
        If huggingface_hub is not installed, or the Hub cannot be reached or has no such repository.
    RunError
        If `out` is not new, or the repository holds no run, one that was changed, or more than `MAX_BYTES`.
    OutputError
        If it cannot be written, or the disk has no room for it.
    """
    expect_usable(name)
    check_new(out)
    hub = _hub()
    with new_folder(out) as temporary:
        with _errors(name):
            api = hub.HfApi(library_name="vaelab", library_version=__version__)
            info = api.repo_info(name, files_metadata=True)
            sizes = {each.rfilename: each.size or 0 for each in info.siblings or () if each.rfilename in FILES}
            if not sizes.keys() >= NEEDED:
                missing = " and ".join(sorted(NEEDED - sizes.keys()))
                raise RunError(f"{name}: no {missing} in it; expected a repository that vaelab push wrote")
            if (size := sum(sizes.values())) > MAX_BYTES:
                raise RunError(
                    f"{name}: got files of {size / 2**30:.3g} GiB; expected at most {MAX_BYTES / 2**30:.3g} GiB, as no run of "
                    "vaelab has more"
                )
            expect_room(out, size, f"the files of {name}")
            for file in sorted(sizes):
                api.hf_hub_download(name, file, revision=info.sha, local_dir=temporary)
        shutil.rmtree(temporary / ".cache", ignore_errors=True)
        try:
            run = runs.open_run(temporary)
            runs.saved_digest(run)
        except RunError as error:
            raise RunError(str(error).replace(str(temporary), name)) from error
    return runs.open_run(out)


def _hub() -> Any:
    """Return huggingface_hub, without telemetry and progress bars."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return import_module("huggingface_hub")


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Raise errors of the client as a HubError; none of its texts has the token."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{name}: no such repository on the Hub, or one that your token may not see; check the name and the token"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        advice = "check that your token may do this" if status in (401, 403) else "try again later"
        raise HubError(f"{name}: the Hub refuses with status {status}; {advice}") from error
    except (httpx.HTTPError, ConnectionError, errors.LocalEntryNotFoundError) as error:
        why = shortened(" ".join(str(error).split()) or type(error).__name__, 150)
        raise HubError(
            f"{name}: the Hub cannot be reached ({why}); check the network, and HF_ENDPOINT if it is set"
        ) from error
