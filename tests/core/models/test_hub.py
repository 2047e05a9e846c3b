"""Fetching from the hub."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import load_model
from outcrop.models.hub import HubUnreachableError, fetch


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this computer; returns a function that sets the status it answers with."""
    status = {"HEAD": 404, "GET": 404}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):  # the name that http.server asks for
            self.send_response(status["HEAD"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):  # as above
            self.send_response(status["GET"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield lambda **answers: status.update(answers)
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_the_hub_does_not_have_is_not_found(hub):
    with pytest.raises(ModelNotFoundError, match=r"The hub has no someone/something/model.safetensors"):
        fetch("someone/something", "model.safetensors")
    with pytest.raises(
        ModelLoadError, match=r"no safetensors weights for 'resnet18': The hub has no .*pretrained=false"
    ):
        load_model("timm:resnet18")
    with pytest.raises(ModelNotFoundError, match=r"The hub has no .*; give the name of a transformers model"):
        load_model("hf:someone/something")


def test_a_failed_transfer_is_named(hub):
    hub(HEAD=403)
    with pytest.raises(ModelLoadError, match=r"Cannot fetch someone/something/model.safetensors"):
        fetch("someone/something", "model.safetensors")


def test_a_hub_that_does_not_answer_is_told_from_one_without_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(HubUnreachableError, match=r"is not cached, and the hub does not answer \("):
        fetch("someone/something", "model.safetensors")
