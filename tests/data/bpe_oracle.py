"""bpe_oracle.py OUT VOCAB_SIZE EXPRESSION TEXT...: trains a byte-level BPE with the package `tokenizers`
and writes its tokens by id and its merges to OUT. With a tokenizer.json in place of VOCAB_SIZE and
EXPRESSION "encode", writes the ids of the texts instead."""

import json
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

out, size, expression, *files = sys.argv[1:]
texts = [open(file, encoding="utf-8", newline="").read() for file in files]
if expression == "encode":
    tokenizer = Tokenizer.from_file(size)
    result = [tokenizer.encode(text).ids for text in texts]
else:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expression), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size),
        show_progress=False,
        special_tokens=["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    result = {"tokens": sorted(model["vocab"], key=model["vocab"].get), "merges": model["merges"]}
json.dump(result, open(out, "w", encoding="utf-8"))
