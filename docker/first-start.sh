#!/bin/sh
# Creates what the first start needs: a key, stored in the home and readable by its owner only, and the topic in
# ASGI_AUDIT_TRANSPORT, with the arguments of `asgi-audit topics create`. May be run again at any time.
set -eu
umask 077
key="$ASGI_AUDIT_HOME/first-key"
if [ ! -s "$key" ]; then
  # Written to a temporary file and renamed, so an interrupted start leaves no partial key.
  asgi-audit keys create --role auditor --account '*' >"$key.new"
  mv "$key.new" "$key"
fi
asgi-audit topics create "$@" "$ASGI_AUDIT_TRANSPORT"
