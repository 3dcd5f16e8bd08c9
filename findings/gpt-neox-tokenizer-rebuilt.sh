#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer on a folder whose config.json says gpt_neox does not run the folder's
# tokenizer.json as it stands. It takes vocabulary and merges from it and puts in a normalizer (NFC), a byte-level
# pre-tokenizer and a post-processor of its own. A tokenizer that differs there yields other ids through AutoTokenizer
# than through the tokenizers library, from the same file, without a word.
# Seen: a byte-level BPE without a normalizer reads "e" + combining acute accent as two characters; AutoTokenizer
# composes them first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3
export HF_HOME="$folder/hub" HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

print("transformers", version("transformers"), "tokenizers", version("tokenizers"))
folder = Path(sys.argv[1]) / "model"
folder.mkdir(exist_ok=True)
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
)
made.train_from_iterator(["the state of the art"] * 10, trainer)
made.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPTNeoXTokenizer"}))

text = "the cafe\u0301"
file = Tokenizer.from_file(str(folder / "tokenizer.json"))
loaded = AutoTokenizer.from_pretrained(folder)
before, after = file.encode(text).ids, loaded(text).input_ids
print("  normalizer in the file:", file.normalizer, "| as loaded:", loaded.backend_tokenizer.normalizer)
print("  ids by the file:", before, "| as loaded:", after)
assert file.normalizer is None and "NFC" in str(loaded.backend_tokenizer.normalizer)
assert before != after
PYTHON
echo "as described"
