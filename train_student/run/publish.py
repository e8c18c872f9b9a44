"""A finished student on the Hugging Face hub, as timm reads it from there."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from pld.errors import OutputError


def publish(model_folder: Path, repository: str) -> None:
    """Upload config.json and model.safetensors; `timm.create_model("hf-hub:REPOSITORY", pretrained=True)` loads them.

    Raises:
        OutputError: the hub cannot be reached or refuses; the model is still in its folder.
    """
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=model_folder, commit_message="Upload the trained student")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise OutputError(
            f"{repository}: could not be published: {error}; the model is in {model_folder}: log in with "
            f'"hf auth login", then "hf upload {repository} {model_folder}"'
        ) from error
