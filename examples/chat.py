# Asks one question with Python's standard library alone. First: set -a; . .attune/dev.env
import json
import os
import urllib.request

question = {"model": "smollm2-135m-instruct", "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
request = urllib.request.Request(
    os.environ["ATTUNE_BASE_URL"] + "/v1/chat/completions",
    data=json.dumps(question).encode(),
    headers={"authorization": "Bearer " + os.environ["ATTUNE_API_KEY"], "content-type": "application/json"},
)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)
print(answer["choices"][0]["message"]["content"])
