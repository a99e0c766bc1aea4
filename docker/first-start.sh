#!/bin/sh
# Makes what the first start needs, and may be run again at any time: a key, kept in the home for its owner alone, and the
# topic that ASGI_AUDIT_TRANSPORT names, with the arguments of `asgi-audit topics create`.
set -eu
umask 077
key="$ASGI_AUDIT_HOME/first-key"
if [ ! -s "$key" ]; then
  # Written beside and renamed: a start that was cut short leaves no half a key.
  asgi-audit keys create --role auditor --account '*' >"$key.new"
  mv "$key.new" "$key"
fi
asgi-audit topics create "$@" "$ASGI_AUDIT_TRANSPORT"
