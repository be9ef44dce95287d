#!/usr/bin/env bash
# Asks one question and prints the whole answer as JSON. First: set -a; . .attune/dev.env
set -euo pipefail

curl -sS --fail-with-body "$ATTUNE_BASE_URL/v1/chat/completions" \
  -H "authorization: Bearer $ATTUNE_API_KEY" \
  -H "content-type: application/json" \
  -d '{
    "model": "smollm2-135m-instruct",
    "temperature": 0,
    "max_tokens": 32,
    "messages": [{"role": "user", "content": "What is the capital of France?"}]
  }'
