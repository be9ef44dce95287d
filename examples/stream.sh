#!/usr/bin/env bash
# Asks one question and shows the events of the stream as they come in. First: set -a; . .attune/dev.env
set -euo pipefail

curl -sSN --fail-with-body "$ATTUNE_BASE_URL/v1/chat/completions" \
  -H "authorization: Bearer $ATTUNE_API_KEY" \
  -H "content-type: application/json" \
  -d '{
    "model": "smollm2-135m-instruct",
    "temperature": 0,
    "max_tokens": 32,
    "stream": true,
    "messages": [{"role": "user", "content": "What is the capital of France?"}]
  }'
