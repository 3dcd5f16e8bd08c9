#!/usr/bin/env bash
# lm-eval 0.4.13: a task that has a test split and no fewshot, training or validation split takes its few-shot examples
# from the test documents (it logs that this is not recommended), and the document that is asked is removed from the
# draw only if fewshot_split is written out and equals test_split. Left out, as in most task files, the draw may hold
# the asked document with its answer. With fewshot_split written, none does.
# Seen on a task of 20 documents with 5 shots: 8 prompts hold their own answer; with `fewshot_split: test` none does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 datasets==5.2.0 lm-eval==0.4.13
export HF_HOME="$folder/hub" HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

from lm_eval.tasks import TaskManager

print("lm-eval", version("lm-eval"))
folder = Path(sys.argv[1])
documents = [{"question": f"What is the number {i}?", "answer": f"secret{i:02d}"} for i in range(20)]
(folder / "test.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
common = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}},
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "num_fewshot": 5,
    "generation_kwargs": {"until": ["\n"]},
}
found = {}
for name, extra in {"left_out": {}, "written": {"fewshot_split": "test"}}.items():
    config = {"task": name, **common, **extra}
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML
manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
for name in ("left_out", "written"):
    task = manager.load([name])["tasks"][name]
    task.set_config("num_fewshot", 5)
    task.set_fewshot_seed(1234)
    prompts = [(document, task.fewshot_context(document, 5)) for document in task.test_docs()]
    found[name] = sum(f"{document['answer']}\n" in f"{prompt}\n" for document, prompt in prompts)
    print(f"  fewshot_split {name.replace('_', ' ')}: {found[name]} of {len(prompts)} prompts hold their own answer")
assert found == {"left_out": 8, "written": 0}, found
PYTHON
echo "as described"
