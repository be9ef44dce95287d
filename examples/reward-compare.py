# Asks which of two answers is better, with Python's standard library alone. First: set -a; . .attune/dev.env
import json
import os
import urllib.request

pair = {"a": "The capital of France is Paris.", "b": "Bananas are yellow and grow on trees."}
request = urllib.request.Request(
    os.environ["ATTUNE_BASE_URL"] + "/v1/rewards/compare",
    data=json.dumps({"model": "gram-smollm2-135m", "input": "What is the capital of France?", **pair}).encode(),
    headers={"authorization": "Bearer " + os.environ["ATTUNE_API_KEY"], "content-type": "application/json"},
)
with urllib.request.urlopen(request) as response:
    verdict = json.load(response)
print(f"{verdict['winner']}, with probability {verdict['probability_a']:.2f} for a:", pair.get(verdict["winner"], "it is a tie"))
