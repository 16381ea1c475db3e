#!/bin/sh
# The browser tests need a Chromium: install Debian's where we may, else they skip by name (except under CI).
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
elif [ "${CI:-}" = true ]; then
    echo "install-browser: CI must run the browser tests, but there is no chromium and this user cannot install it" >&2
    exit 1
else
    echo "install-browser: no chromium; the browser tests will be skipped. Install the package chromium to run them."
fi
