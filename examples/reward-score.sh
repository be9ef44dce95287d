#!/usr/bin/env bash
# Scores two answers against each other and prints the scores with their ids as JSON. First: set -a; . .attune/dev.env
set -euo pipefail

curl -sS --fail-with-body "$ATTUNE_BASE_URL/v1/rewards/score" \
  -H "authorization: Bearer $ATTUNE_API_KEY" \
  -H "content-type: application/json" \
  -d '{
    "model": "gram-smollm2-135m",
    "input": "What is the capital of France?",
    "responses": [
      {"id": "Paris", "content": "The capital of France is Paris."},
      {"id": "bananas", "content": "Bananas are yellow and grow on trees."}
    ]
  }'
