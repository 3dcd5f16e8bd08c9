#!/usr/bin/env bash
# datatrove 0.10.1: the text normalization before MinHash and exact matching (datatrove.utils.text.simplify_text, its
# option norm_unicode_diacritics, on by default) decomposes the text and drops every character of Unicode category Mn.
# Of "café" that leaves "cafe", as meant. But it also turns Japanese voiced syllables into unvoiced ones (ga, gi, gu ->
# ka, ki, ku) and takes Hindi's nonspacing vowel signs and virama, which are letters there, not ornament: different
# words become the same before they are compared.
# Seen: 'がぎぐ' -> 'かきく'; 'में' -> 'म'; 'मैं' -> 'म' ("in" and "I" are one word); 'बुरा' -> 'बरा'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 regex==2026.11.15
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

from datatrove.utils.text import TextNormConfig, simplify_text

print("datatrove", version("datatrove"))
seen = {"café": "cafe", "がぎぐ": "かきく", "में": "म", "मैं": "म", "बुरा": "बरा"}
for text, expected in seen.items():
    made = simplify_text(text)
    print(f"  {text!r} -> {made!r}")
    assert made == expected, f"changed: {text!r} gives {made!r}, and gave {expected!r}"
kept = simplify_text("में", TextNormConfig(norm_unicode_diacritics=False))
print(f"  without norm_unicode_diacritics: 'में' -> {kept!r}")
assert kept == "में"
PYTHON
echo "as described"
