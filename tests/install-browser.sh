#!/bin/sh
# The browser tests need a Chromium: install Debian's where we may, else they skip by name (under CI they fail).
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "install-browser: no chromium, and it cannot be installed here: install the package chromium yourself" >&2
test "${CI:-}" != true
