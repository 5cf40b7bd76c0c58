"""What is never executed: pickles from anywhere, and code in a model's folder that the config does not trust."""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.errors import UserError
from adaptive_samplers.import_reference import main as import_reference
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.serving.kinds import SERVERS, Served
from support import REPOSITORY
from tiny_model import write_tiny_model

SOURCES = sorted([*(REPOSITORY / "scripts").rglob("*.py"), *(REPOSITORY / "bench").glob("*.py")])
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads"),
    *("joblib.load", "pd.read_pickle", "pandas.read_pickle", "marshal.loads", "yaml.load", "yaml.unsafe_load"),
    *("eval", "exec", "os.system"),
}


def called(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def complaints(source: str) -> list[str]:
    found = []
    for name, words in called(ast.parse(source)):
        if name in FORBIDDEN:
            found.append(name)
        if name == "torch.load" and words.get("weights_only") != "True":
            found.append(name)
        if name in ("np.load", "numpy.load") and words.get("allow_pickle", "False") != "False":
            found.append(name)
        if words.get("shell") == "True" or words.get("trust_remote_code") == "True":
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_call_runs_what_it_reads(path):
    # What runs inside the sandbox is there to execute the code of answers; test_sandbox.py attacks it.
    allowed = {"exec"} if path.name == "sandbox_child.py" else set()
    assert set(complaints(path.read_text())) <= allowed


def test_the_walk_sees_such_calls():
    for source in (
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "yaml.load(text)",
    ):
        assert complaints(source), source
    assert complaints("torch.load(path, weights_only=True); np.load(path); model.eval()") == []


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_beside_or_instead_of_weights_is_not_opened(tmp_path):
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists()  # it would have gone off
    mark.unlink()

    sampler, folder = build_sampler("LocalProbabilityTransform", {"hidden_dims": 4}, seed=0), tmp_path / "sampler"
    sampler.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(bomb)
    AdaptiveSampler.from_pretrained(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises((OSError, UserError, ValueError)):
        AdaptiveSampler.from_pretrained(str(folder))

    (tmp_path / "checkpoint.pt").write_bytes(bomb)
    config = tmp_path / "config.yaml"
    config.write_text("hidden_dims: 4\n")
    command = [str(tmp_path / "checkpoint.pt"), "--architecture", "LocalProbabilityTransform"]
    command += ["--config", str(config), "--output", str(tmp_path / "imported")]
    assert import_reference(command) != 0

    model = tmp_path / "model"
    write_tiny_model(model)
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(UserError, match=r"pytorch_model\.bin, are a pickle.*safetensors") as refused:
        LanguageModel(model, device="cpu")
    assert "weights_only" not in str(refused.value)
    source = {"kind": "folder", "path": str(model)}
    with pytest.raises(UserError, match=r"model 'x', from .*pytorch_model\.bin, are a pickle"):
        fetch_model("x", source, "CC0-1.0", tmp_path / "fetched")
    assert not mark.exists() and not (tmp_path / "fetched").exists()
    # Beside the weights in safetensors, or as another library's, it is not looked at.
    write_tiny_model(model)
    (model / "openvino").mkdir()
    (model / "openvino" / "openvino_model.bin").write_bytes(bomb)
    fetch_model("x", source, "CC0-1.0", tmp_path / "fetched")
    assert not mark.exists()


def test_code_in_a_model_folder_does_not_run(tmp_path):
    mark, folder = tmp_path / "mark", tmp_path / "model"
    write_tiny_model(folder)
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nfrom transformers import LlamaConfig as Config\n"
    code += "from transformers import LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokenizer\n"
    (folder / "custom.py").write_text(code)
    for name, auto in {
        "config.json": {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"},
        "tokenizer_config.json": {"AutoTokenizer": ["custom.Tokenizer", "custom.Tokenizer"]},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "auto_map": auto, "model_type": "unheard_of"}))
    for load in (ChatTokenizer, LanguageModel):
        with pytest.raises(UserError):
            load(folder)
    assert not mark.exists()
    trusting = "import sys; from adaptive_samplers.models.language_model import LanguageModel\n"
    trusting += "LanguageModel(sys.argv[1], trust_remote_code=True, device='cpu')"
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "scripts"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }
    subprocess.run([sys.executable, "-c", trusting, str(folder)], env=environment, capture_output=True, check=False)
    assert mark.exists()  # it would have run


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("kind", "processor", "sizes"),
    [
        ("sglang", "--enable-custom-logit-processor", ("--tp-size", "--dp-size")),
        ("vllm", "--logits-processors", ("--tensor-parallel-size", "--data-parallel-size")),
    ],
)
def test_the_server_trusts_code_only_where_the_config_does(tiny_model_folder, trusted, kind, processor, sizes):
    served = Served(tiny_model_folder, "mark", "cuda", "bfloat16", trusted, "generate", 2, 3, ["--last=0.8"])
    arguments = SERVERS[kind].arguments(served)
    assert ("--trust-remote-code" in arguments) == trusted
    assert arguments[-1] == "--last=0.8" and processor in arguments
    assert [arguments[arguments.index(size) + 1] for size in sizes] == ["2", "3"]
    assert "cpu" not in arguments
