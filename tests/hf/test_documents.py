import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text()


def test_the_python_of_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL):
        exec(compile(block, "docs/transformers.md", "exec"), names)
    assert names["texts"][0].startswith("Once upon a time")
    assert names["ids"].shape == (2, 17 + 20)
    assert names["generator"]("The", max_new_tokens=3, return_full_text=True)[0]["generated_text"].startswith("The")
    assert names["trainer"].state.global_step == 2
    assert (tmp_path / "folder" / "model.safetensors").exists()
