#!/usr/bin/env bash
# The tests of the pages in a browser: install Debian's Chromium if there is none, then run pytest. Arguments go to
# pytest. Outside CI a machine where it can't be had skips them and says why; in CI that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "tests/browser: skipped: $*"; [ -z "${CI:-}" ]; exit; }
if ! command -v chromium > /dev/null; then
  [ "$(id -u)" = 0 ] || skip "there is no chromium, and installing it needs root"
  command -v apt-get > /dev/null || skip "chromium is installed from Debian's packages, and apt-get is not there"
  echo "Installing chromium"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium; } \
    > /dev/null || skip "apt-get could not install chromium"
fi
exec python -m pytest -m "" "${@:-tests/workflow/test_pages.py}"
