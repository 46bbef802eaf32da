"""The cases of tokenizer_oracle.py whose model is not BPE: Unigram, WordPiece, WordLevel."""

import json
import random
import struct
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

# ---- a compiled character map, as SentencePiece writes it ----


def charsmap(rules):
    """Darts-clone's double array of `rules` (text to text) and the replacements behind it."""
    replacements, places = bytearray(), {}
    root = {}
    for key, value in sorted(rules.items()):
        if value not in places:
            places[value] = len(replacements)
            replacements += value.encode() + b"\0"
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node["value"] = places[value]
    units, taken, bases = {}, set(), set()
    lowest = 1

    def place(position, label, node):
        """The unit at `position` and, beside a base of its own, those of its children."""
        nonlocal lowest
        labels = [0] * ("value" in node) + [byte for byte in node if byte != "value"]
        while lowest in taken:
            lowest += 1
        base = lowest
        while base in bases or any(base ^ byte in taken for byte in labels):
            base += 1
        bases.add(base)
        taken.update(base ^ byte for byte in labels)
        units[position] = (position ^ base) << 10 | ("value" in node) << 8 | label
        if "value" in node:
            units[base] = 1 << 31 | node["value"]
        for byte in labels[("value" in node):]:
            place(base ^ byte, byte, node[byte])

    taken.add(0)
    place(0, 0, root)
    size = max(units) + 256 & ~255
    array = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(array)) + array + bytes(replacements)


def rules(characters):
    """Like SentencePiece's nmt_nfkc: compatibility forms, compositions, controls and white space."""
    found = {}
    for code in [*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F]:
        found[chr(code)] = ""
    for code in [9, 0xA, 0xC, 0xD, 0x85, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F,
                 0x205F, 0x2581, 0x3000, 0xFEFF, 0xFFFD]:
        found[chr(code)] = " "
    for character in characters:
        composed = unicodedata.normalize("NFKC", character)
        if composed != character and character not in found:
            found[character] = composed
        apart = unicodedata.normalize("NFD", character)
        if apart != character:
            found[apart] = composed
    # Longer texts, with and without a beginning of their own in the map, and one of two clusters.
    found |= {"th": "T", "\r\n": "\n", "Ａ\u0301": "Á", "e\u0301\u0323": "ẹ́", "ﬁ": "fi", "ß": "ss", "q\u0301": "Q"}
    return found


# ---- Unigram ----

SPECIALS = ["<unk>", "<s>", "</s>"]


def vocabulary(tokenizer):
    return [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]


def assemble(tokenizer, pre, normalizer, decoder, post=None):
    """Gives the tokenizer the parts that are not None."""
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if decoder is not None:
        tokenizer.decoder = decoder
    if post is not None:
        tokenizer.post_processor = post
    return tokenizer


def unigram(vocab, pre=None, normalizer=None, decoder=None, post=None, byte_fallback=False, unk_id=0):
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id, byte_fallback))
    return assemble(tokenizer, pre, normalizer, decoder, post)


def with_bytes(vocab, without=()):
    return vocab[:3] + [(f"<0x{byte:02X}>", 0.0) for byte in range(256) if byte not in without] + vocab[3:]


def ties():
    """Few scores for many tokens of few letters: sums that are equal, or differ in the last bit only."""
    letters = ["a", "b", "▁", "0", "é", "漢"]
    scores = [-0.1, -0.2, -0.3, -2.5, -7.700000286102295, -3.1415927410125732]
    tokens = {"".join(random.choice(letters) for _ in range(random.randint(1, 5))) for _ in range(400)}
    tokens |= {letter * size for letter in letters for size in range(1, 9)}
    return [("<unk>", 0.0)] + [(token, random.choice(scores) * random.choice([1, len(token)]))
                               for token in sorted(tokens)]


def unknowns():
    """Unknown characters that are a token together, a token that stands twice, positive scores."""
    return [("<unk>", 60.0), ("a", 50.0), ("b", 55.5), ("ab", 40.0), ("мир", 45.0), ("the", 70.0),
            ("a", 65.0), ("ab", 90.0), (" ", 41.0), ("", 50.0), ("こん", 44.0), ("<0xC3>", 43.0),
            ("<0xA9>", 43.0), ("<0xE2>", 43.0)]


SENTENCEPIECE = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])


def unigram_cases(lines, with_added, split, characters):
    trained = Tokenizer(models.Unigram())
    map_normalizer = normalizers.Precompiled(charsmap(rules(characters)))
    two_spaces = normalizers.Replace(Regex(" {2,}"), " ")
    trained.normalizer = normalizers.Sequence([map_normalizer, two_spaces])
    trained.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    trained.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=3000, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False))
    vocab = vocabulary(trained)
    metaspace = pre_tokenizers.Metaspace
    roberta = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    template = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return {
        "unigram_t5": lambda: with_added(unigram(
            vocab, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace("▁", "always")]),
            normalizers.Sequence([map_normalizer, two_spaces]), decoders.Metaspace("▁", "always"), template)),
        "unigram_xlmr": lambda: with_added(unigram(
            vocab, metaspace("▁", "always"), map_normalizer, decoders.Metaspace("▁", "always"), roberta)),
        "unigram_albert": lambda: with_added(unigram(
            vocab, metaspace("▁", "always"),
            normalizers.Sequence([
                normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                normalizers.StripAccents(), normalizers.Lowercase(), map_normalizer, two_spaces]),
            decoders.Metaspace("▁", "always"), processors.BertProcessing(("</s>", 2), ("<s>", 1)))),
        # The word is the whole text; what counts as its beginning goes through the map.
        "unigram_first": lambda: with_added(unigram(
            with_bytes(vocab), metaspace("▁", "first", split=False), map_normalizer, SENTENCEPIECE, roberta,
            byte_fallback=True)),
        "unigram_first_split": lambda: with_added(unigram(
            vocab, pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), metaspace("▁", "first")]),
            normalizers.Sequence([normalizers.Nmt(), map_normalizer]), decoders.Metaspace("▁", "first"))),
        "unigram_plain": lambda: unigram(
            with_bytes(vocab), None, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                                                           normalizers.Replace(" ", "▁")]),
            SENTENCEPIECE, byte_fallback=True),
        "unigram_some_bytes": lambda: unigram(
            with_bytes(vocab, without=(0xE3, 0x81)), metaspace("▁", "never"), None, SENTENCEPIECE,
            byte_fallback=True),
        "unigram_ties": lambda: unigram(ties(), metaspace("▁", "never", split=False)),
        "unigram_ties_split": lambda: unigram(ties(), metaspace("▁", "always")),
        "unigram_unknowns": lambda: unigram(unknowns(), byte_fallback=True),
        "unigram_scripts": lambda: unigram(
            vocab, pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), metaspace("▁", "always")])),
        "unigram_byte_level": lambda: unigram(
            [("<unk>", -20.0)] + [(token, -float(len(token) % 7)) for token in sorted(
                pre_tokenizers.ByteLevel.alphabet() + ["Ġthe", "Ġof", "ing", "Ã©", "ĠĠ", "ĊĊ", "Ġa"])],
            pre_tokenizers.ByteLevel(add_prefix_space=True), None, decoders.ByteLevel()),
        "unigram_delimiter": lambda: unigram(vocab, pre_tokenizers.CharDelimiterSplit("e")),
        "unigram_fixed": lambda: unigram(vocab, pre_tokenizers.Sequence([
            metaspace("▁", "never", split=False), pre_tokenizers.FixedLength(7)])),
    }


# ---- WordPiece and WordLevel ----

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"]


def wordpiece(vocab, pre=None, normalizer=None, decoder=None, post=None, **model):
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", **model))
    return assemble(tokenizer, pre, normalizer, decoder, post)


def wordpiece_cases(lines, with_added, split, characters):
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=False)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=4000, special_tokens=BERT, limit_alphabet=600, show_progress=False))
    vocab = trained.get_vocab()
    lower = {}
    for token, _ in sorted(vocab.items(), key=lambda entry: entry[1]):
        lower.setdefault(token if token in BERT else token.lower(), len(lower))
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(lines, trainers.WordLevelTrainer(
        vocab_size=2000, special_tokens=BERT, show_progress=False))
    word_vocab = words.get_vocab()
    post = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    bert, normal = pre_tokenizers.BertPreTokenizer, normalizers.BertNormalizer

    def wordlevel(pre, decoder=None):
        tokenizer = Tokenizer(models.WordLevel(word_vocab, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre
        if decoder is not None:
            tokenizer.decoder = decoder
        return tokenizer

    def origin():
        """Every character a word; those that count as the beginning of the text get a mark."""
        letters = ["[UNK]"] + sorted(set("".join(lines[:2000]) + "½⁄éÁTQ▁") - {"["})[:700]
        tokens = dict.fromkeys(letters + ["▁" + letter for letter in letters])
        tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "[UNK]"))
        tokenizer.normalizer = normalizers.Precompiled(charsmap(rules(characters)))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.FixedLength(1), pre_tokenizers.Metaspace("▁", "first")])
        return with_added(tokenizer)

    return {
        "wordlevel_origin": origin,
        "wordpiece_uncased": lambda: with_added(wordpiece(lower, bert(), normal(), decoders.WordPiece(), post)),
        "wordpiece_cased": lambda: with_added(wordpiece(
            vocab, bert(), normal(lowercase=False), decoders.WordPiece(cleanup=False), post)),
        "wordpiece_accents": lambda: wordpiece(
            vocab, bert(), normal(clean_text=False, strip_accents=True, lowercase=False), decoders.WordPiece()),
        "wordpiece_keeps_accents": lambda: wordpiece(
            lower, bert(), normal(handle_chinese_chars=False, strip_accents=False), decoders.WordPiece()),
        "wordpiece_short": lambda: wordpiece(
            vocab, pre_tokenizers.WhitespaceSplit(), None, decoders.WordPiece(prefix="a", cleanup=True),
            max_input_chars_per_word=6, continuing_subword_prefix=""),
        "wordpiece_one_word": lambda: wordpiece(
            lower | {"##" + token: len(lower) + index for index, token in enumerate([" ", "\n", ".", ","])},
            None, normal(), decoders.Sequence([decoders.Fuse(), decoders.WordPiece()])),
        "wordpiece_marks": lambda: wordpiece(
            {token.replace("##", "@@"): index for token, index in vocab.items()},
            split(r"\s+", "removed"), None, decoders.WordPiece(prefix="@@"), continuing_subword_prefix="@@"),
        "wordlevel": lambda: with_added(wordlevel(pre_tokenizers.Whitespace(), decoders.WordPiece())),
        "wordlevel_ctc": lambda: wordlevel(pre_tokenizers.BertPreTokenizer(), decoders.CTC("the", "n", True)),
        "wordlevel_ctc_plain": lambda: wordlevel(
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")]),
            decoders.Sequence([decoders.CTC("[PAD]", "|", False), decoders.Metaspace("e", "always")])),
    }


def cases(lines, with_added, split, characters):
    return unigram_cases(lines, with_added, split, characters) | wordpiece_cases(
        lines, with_added, split, characters)


# ---- properties of characters ----

def properties():
    """One byte for each code point: sets it is in, and whether the next one is of another script."""
    bert = normalizers.BertNormalizer
    clean = bert(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    accents = bert(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    punctuation, scripts = pre_tokenizers.Punctuation(), pre_tokenizers.UnicodeScripts()
    found = bytearray(0x110000)
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        text = f"a{chr(code)}b"
        apart = unicodedata.normalize("NFD", chr(code)) == chr(code)  # else the mark is of its parts
        following = code + 1 if 0xDFFF <= code + 1 < 0x110000 or code + 1 < 0xD800 else code
        found[code] = (
            (len(punctuation.pre_tokenize_str(text)) == 3)
            | (normalizers.StripAccents().normalize_str(text) == "ab") << 1
            | (apart and accents.normalize_str(text) == "ab") << 2
            | (code != 0xFFFD and clean.normalize_str(text) == "ab") << 3
            | (len(scripts.pre_tokenize_str(chr(code) + chr(following))) == 2) << 4)
    return bytes(found)
