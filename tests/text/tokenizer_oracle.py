"""Writes tokenizers of every kind with the ids and texts that the package `tokenizers` gives.

usage: tokenizer_oracle.py OUT
OUT/texts        length-prefixed documents: int32 count, then for each int32 size and bytes
OUT/properties   a byte for each code point, see tokenizer_oracle_models.properties
OUT/<case>/tokenizer.json
OUT/<case>/ids   for each document: int32 size and ids, with and then (short ones) without special tokens
OUT/<case>/decoded  for each list of ids of `probes`: the text without and with special tokens
OUT/<case>/probes   length-prefixed lists of ids
Documents hold invalid bytes too; the package sees them decoded with errors="replace".
"""

import pathlib
import random
import struct
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

import tokenizer_oracle_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
random.seed(20240)

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
          r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CAMEL = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# ---- text ----

# Assigned long before any Unicode version that a property table in use may have.
RANGES = [(0x20, 0x7E), (0xA1, 0x17F), (0x300, 0x36F), (0x391, 0x3C9), (0x410, 0x44F),
          (0x5D0, 0x5EA), (0x620, 0x652), (0x904, 0x939), (0x93E, 0x94D), (0xE01, 0xE3A),
          (0x10D0, 0x10F0), (0x1100, 0x1112), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x20A0, 0x20AC),
          (0x2100, 0x214D), (0x2160, 0x2188), (0x2190, 0x21FF), (0x2460, 0x24FF), (0x2580, 0x259F),
          (0x3000, 0x3029), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4FFF), (0xAC00, 0xADFF),
          (0xF900, 0xFA2D), (0xFB00, 0xFB06), (0xFF01, 0xFFEE), (0x10300, 0x1031E),
          (0x1D400, 0x1D454), (0x1F130, 0x1F169), (0x1F600, 0x1F64F), (0x1F3FB, 0x1F3FF),
          (0x20000, 0x200FF)]
CODE = ["def f(x, y=None):\n\treturn x ** 2 + y[-1]  # why\n", "for (int i = 0; i < n; ++i) {\n    a[i] += b->c;\n}\n",
        "<div class=\"x\">\r\n  &nbsp;</div>\r\n", "SELECT * FROM t WHERE id='42' AND v>=3.14e-10;\n",
        "{\"key\": [1, 2, {\"deep\": null}], \"k2\": \"\\u00e9\"}\n", "camelCaseName snake_case_name SCREAMING_CASE HTTPServer2\n",
        "https://example.org/a/b?c=d&e=%20f#g\n", "if [[ -z \"$1\" ]]; then echo 'no'; fi\n"]
WORDS = ("the of and to in I'll don't WE'RE you've it's He'D 1234567 3.14 x2 naïve Straße ΣΊΣΥΦΟΣ "
         "İstanbul ﬁne e\u0301te\u0301 мир שלום السلام हिन्दी ภาษาไทย 你好世界 こんにちは 한국어 "
         "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ <0x41> ▁ ▁▁ Ġ Ċ Ġthe \u00a0 \u3000 \u200b \ufeff ½ Ⅷ ² ＡＢＣ").split(" ")
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "        ", "\u00a0", "\u2003", "\u2028", ""]


def character():
    low, high = random.choice(RANGES)
    return chr(random.randint(low, high))


def fragment():
    kind = random.random()
    if kind < 0.35:
        return random.choice(WORDS) + random.choice(SPACES)
    if kind < 0.5:
        return random.choice(CODE)
    if kind < 0.75:
        low, high = random.choice(RANGES)
        return "".join(chr(random.randint(low, high)) for _ in range(random.randint(1, 8)))
    if kind < 0.95:
        return "".join(character() for _ in range(random.randint(1, 12)))
    return random.choice(SPACES) * random.randint(1, 20)


def mixed(size):
    parts, total = [], 0
    while total < size:
        parts.append(fragment().encode())
        total += len(parts[-1])
    return b"".join(parts)


def damaged(data):
    data = bytearray(data)
    for _ in range(len(data) // 200 + 1):
        at = random.randrange(len(data))
        data[at:at + random.randint(0, 2)] = bytes(random.randrange(256) for _ in range(random.randint(1, 3)))
    return bytes(data)


SPECIALS = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "[MASK]", "hello", "Ünï", "<|im"]
BOOK = (ROOT / "examples/frankenstein.txt").read_bytes()


def sprinkled():
    return "".join(random.choice(SPECIALS + SPACES + WORDS + ["hellohello", "ahello", "HELLO", "UNI", "u\u0308ni\u0308"])
                   for _ in range(random.randint(1, 9))).encode()


def documents():
    yield b""
    for text in WORDS + SPACES + CODE + SPECIALS:
        yield text.encode()
    for _ in range(700):
        yield mixed(random.randint(1, 60))
    for _ in range(300):
        yield damaged(mixed(random.randint(1, 60)))
    for _ in range(400):
        yield sprinkled()
    yield b"\xff\xfe\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf\xe2\x82\xf0\x9f\x98"
    yield mixed(400_000)
    yield damaged(mixed(500_000))
    yield BOOK
    yield ("a" * 3000 + " " * 3000 + "\n" * 999 + "漢" * 3000 + "1" * 999).encode()


# ---- tokenizers ----

BYTE_DECODER = decoders.ByteLevel()


def sentencepiece_decoder(strips=1):
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", strips, 0)])


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(*steps, prefix=False, regex=False):
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    return pre_tokenizers.Sequence([*steps, last]) if steps else last


def template(tokenizer, single="<s> $A </s>"):
    return processors.TemplateProcessing(single=single, special_tokens=[
        (name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")])


def make(pre=None, normalizer=None, decoder=None, vocab=3000, alphabet=None, post=None, **model):
    """Trained on text of which the tests hold other parts."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer_oracle_models.assemble(tokenizer, pre, normalizer, decoder)
    specials = ["<unk>", "<s>", "</s>"]
    if model.get("byte_fallback"):
        specials += [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=specials, show_progress=False,
                                  max_token_length=24,
                                  initial_alphabet=alphabet or [], limit_alphabet=1200)
    # Lines: without a pre-tokenizer a document would be one word.
    text = (BOOK[:120_000] + TRAINING).decode("utf-8", "replace")
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    if post is not None:
        tokenizer.post_processor = post(tokenizer)
    return tokenizer


TRAINING = mixed(60_000)
ALPHABET = pre_tokenizers.ByteLevel.alphabet()
FALLBACK = dict(byte_fallback=True, fuse_unk=True, unk_token="<unk>")


def bytes_case(pre, **options):
    options.setdefault("decoder", BYTE_DECODER)
    return make(pre=pre, alphabet=ALPHABET, **options)


def with_added(tokenizer):
    tokenizer.add_special_tokens([
        AddedToken("<|im_start|>", special=True, normalized=False),
        AddedToken("<|im_end|>", special=True, normalized=False, rstrip=True),
        AddedToken("[MASK]", special=True, normalized=False, lstrip=True)])
    tokenizer.add_tokens([AddedToken("hello", single_word=True), AddedToken("Ünï", normalized=True),
                          AddedToken("<|im", normalized=False, lstrip=True, rstrip=True)])
    return tokenizer


CASES = {
    "gpt2": lambda: bytes_case(byte_level(regex=True), post=lambda t: processors.ByteLevel(trim_offsets=True)),
    "gpt2_prefix": lambda: bytes_case(byte_level(regex=True, prefix=True)),
    "llama3": lambda: with_added(bytes_case(
        byte_level(split(LLAMA3)), ignore_merges=True,
        post=lambda t: processors.Sequence([processors.ByteLevel(), template(t, "<s> $A")]))),
    "qwen2": lambda: with_added(bytes_case(byte_level(split(QWEN2)), normalizer=normalizers.NFC())),
    "camel": lambda: bytes_case(byte_level(split(CAMEL))),
    "several_splits": lambda: bytes_case(byte_level(
        split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"), split(GPT2))),
    "digits": lambda: bytes_case(byte_level(pre_tokenizers.Digits(individual_digits=True), regex=True)),
    "digits_runs": lambda: bytes_case(byte_level(pre_tokenizers.Digits(individual_digits=False),
                                                 pre_tokenizers.Punctuation("contiguous"))),
    "normalizer_bytes": lambda: make(pre=split(r"Ġ?[A-Za-z]+|Ċ+"), alphabet=ALPHABET,
                                     normalizer=normalizers.ByteLevel(), decoder=BYTE_DECODER),
    "llama2": lambda: with_added(make(
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=sentencepiece_decoder(), post=lambda t: template(t, "<s> $A"), **FALLBACK)),
    "metaspace_first": lambda: with_added(make(
        pre=pre_tokenizers.Metaspace("▁", "first", split=False), decoder=sentencepiece_decoder(),
        post=template, **FALLBACK)),
    "metaspace_always": lambda: with_added(make(
        pre=pre_tokenizers.Metaspace("▁", "always", split=True), decoder=decoders.Metaspace("▁", "always"),
        **FALLBACK)),
    "metaspace_never": lambda: make(
        pre=pre_tokenizers.Metaspace("▁", "never", split=True), decoder=decoders.Metaspace("▁", "never"),
        normalizer=normalizers.NFKC(), **FALLBACK),
    "gemma": lambda: make(
        normalizer=normalizers.Replace(" ", "▁"), pre=pre_tokenizers.Split(" ", "merged_with_previous"),
        decoder=sentencepiece_decoder(0), **FALLBACK),
    "unknown": lambda: make(pre=pre_tokenizers.Whitespace(), unk_token="<unk>"),
    "unknown_fused": lambda: make(pre=pre_tokenizers.WhitespaceSplit(), unk_token="<unk>", fuse_unk=True),
    "dropped": lambda: make(pre=pre_tokenizers.WhitespaceSplit(), ignore_merges=True),
    "lower": lambda: with_added(make(normalizer=normalizers.Sequence([
        normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()]),
        pre=pre_tokenizers.Punctuation("removed"), unk_token="<unk>")),
    "nfkd": lambda: make(normalizer=normalizers.Sequence([
        normalizers.NFKD(), normalizers.Replace(Regex(r"\s{2,}"), "▁"), normalizers.Strip(left=True, right=False)]),
        pre=pre_tokenizers.Punctuation("merged_with_next"), unk_token="<unk>", fuse_unk=True),
    "punctuation": lambda: make(pre=pre_tokenizers.Punctuation("merged_with_previous"), unk_token="<unk>"),
}
for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
    for invert in (False, True):
        CASES[f"split_{behavior}{'_invert' if invert else ''}"] = lambda behavior=behavior, invert=invert: make(
            pre=split(r"[\w'’]+|\d", behavior, invert), unk_token="<unk>", vocab=1500)
CASES |= tokenizer_oracle_models.cases(
    (BOOK[:120_000] + TRAINING).decode("utf-8", "replace").splitlines(keepends=True), with_added, split,
    [chr(code) for low, high in RANGES for code in range(low, high + 1)])


# ---- output ----

def write_list(file, items):
    file.write(struct.pack("<i", len(items)))
    file.write(struct.pack(f"<{len(items)}i", *items))


def write_bytes(file, data):
    file.write(struct.pack("<i", len(data)) + data)


def write_case(folder, tokenizer, texts):
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    # As read from the file: its reader does not restore every score of a Unigram to the last bit.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    probes = []
    with open(folder / "ids", "wb") as out:
        for text in texts:
            ids = tokenizer.encode(text).ids
            write_list(out, ids)
            if len(text) < 1000:
                write_list(out, tokenizer.encode(text, add_special_tokens=False).ids)
            if len(ids) < 60 or len(text) > 100_000:
                probes.append(ids)
    size = tokenizer.get_vocab_size()
    probes += [[random.randrange(size) for _ in range(random.randint(1, 24))] for _ in range(300)]
    if size > 300:  # the ids of bytes come first
        probes += [[random.randrange(3, 259) for _ in range(random.randint(1, 9))] for _ in range(200)]
    with open(folder / "probes", "wb") as ids_out, open(folder / "decoded", "wb") as text_out:
        ids_out.write(struct.pack("<i", len(probes)))
        for ids in probes:
            write_list(ids_out, ids)
            for skip in (True, False):
                write_bytes(text_out, tokenizer.decode(ids, skip_special_tokens=skip).encode())


def main():
    out = pathlib.Path(sys.argv[1])
    texts = list(documents())
    with open(out / "texts", "wb") as file:
        file.write(struct.pack("<i", len(texts)))
        for text in texts:
            write_bytes(file, text)
    (out / "properties").write_bytes(tokenizer_oracle_models.properties())
    seen = [text.decode("utf-8", "replace") for text in texts]
    for name, case in CASES.items():
        small = [text for text in seen if len(text) < 1000]
        write_case(out / name, case(), small if name.startswith("split_") else seen)
    write_case(out / "shipped", Tokenizer.from_file(str(ROOT / "models/bootstrap-16m/tokenizer.json")), seen)


main()
