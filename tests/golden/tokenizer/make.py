"""Golden rows of tokenizers: ids and texts as the Python package `tokenizers` gives them.

Writes NAME.tokenizer.json (a small trained vocabulary) and NAME.rows.json next to this file.
    pip install tokenizers==0.23.3; python make.py
Everything is made from the lines below.  The trainers break ties as they like, so a second run can
give other vocabularies: those and their rows are always made together.
"""
import json
import os

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

HERE = os.path.dirname(os.path.abspath(__file__))

CORPUS = [
    "a red circle above a blue square", "what colour is the triangle?", "How many circles are there?",
    "the small green star isn't left of the large yellow cross", "it's raining, we'll stay; they've gone",
    "I'd say you're right and I'm wrong - don't!", "Ein großer Käse kostet 3,50 Euro", "café naïve façade coöperate",
    "12 345 6789 2024-11-28", "日本語のテキスト 中文字符 한국어", "Привет, мир! Ελληνικά σοφός", "emoji 🙂 🎉 👩‍👩‍👧",
    "tabs\tand\nnewlines  and   spaces", "photograph photographic photographer", "the the the cat sat on the mat",
] * 4

TEXTS = [
    "", " ", "   ", "a", "a red circle", " a red circle ", "  two  spaces   inside  ", "A RED Circle",
    "it's we'll they've I'd you're I'm don't", "IT'S WE'LL", "what's that's 'quoted' ''", "isn ' t", "do not . , ? ! 's",
    "12 345 6789", "3.14159 1,000,000 ½ ² Ⅷ ٣", "a1b2c3", "x" * 130, "photographicographer" * 6, "unbelievable" * 9,
    "café cafe\u0301 na\u00efve nai\u0308ve", "\u0301 leading mark", "e\u0301\u0302\u0303", "Å Å Å", "ﬁ ﬂ ﬃ ™ ①",
    "Türkçe İstanbul ıI iİ", "İ", "ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ", "straße STRASSE ẞ", "日本語のテキスト", "中文 abc 字符 def", "한국어 텍스트",
    "각", "がぎ がぎ", "🙂", "🙂🎉 party", "👩‍👩‍👧 family", "🇩🇪", "a\u200bb\u200dc", "a\u00a0b\u2003c\u3000d",
    "control \x01\x02\x1f here", "del \x7f nel \x85 end", "bom \ufeff here", "repl \ufffd here", "tab\there\nnew\r\nline",
    "\t\n", "soft\u00adhyphen", "private \ue000 use", "unassigned \u0378 here", "rtl \u200f\u05d0\u05d1 \u0627\u0644",
    "हिन्दी में", "ไทย", "«quotes» “curly” ‘single’ – dash — em … dots", "$5 + €6 = ¥7 ^ ` ~ | < >", "a_b-c.d/e@f#g",
    "!!!???...", "...", "http://example.org/a?b=c&d=e", "line one\nline two\n\nline four", "\u2028 sep \u2029",
    "[CLS] a [SEP]", "[MASK]", "a [MASK] b", "a[MASK]b", "[mask]", "<s>a</s>", "<|endoftext|>", "a<|endoftext|>b",
    " <|endoftext|> ", "<mask>", "a <mask> b", "a   <mask>   b", "<pad><pad>", "[PAD] [UNK]", "[UNK", "<|startoftext|>a",
    "keyword", "a keyword b", "keywords", "a KEYWORD b", "mykeyword", "keyword.", "KeyWord", "clé", "cle\u0301 x",
    "##ing ##", "a ##b", "</w> a</w>", "Ġ a Ċ", "the cat sat on the mat " * 4, "a\u0300\u0316 order", "\u0316\u0300 order",
    "\U0001d400\U0001d401", "\U00020000 \U0002a700 \U0002b820", "𐐀 𐐨", "ǅ ǆ Ǆ", "ÀÉÎÕÜ", "ñ Ñ", "ſ K",
    "x² ½a Ⓐb", "a\u00a0<mask>\u3000b", "a <mask>\u2003 <mask> b", "，keyword。", "ékeyword", "keyword\u0301", "²keyword ½",
    "<|endoftext|>" * 3, "<|startoftext|><|ENDOFTEXT|>", "CLÉ clé", "\u0345 \u24b6", "a\u200dkeyword",
]
PAIRS = [("a red circle", "what colour is it?"), ("", "a"), ("a", ""), ("", ""), ("the cat " * 8, "on"), ("on", "the cat " * 8),
         ("the cat sat on the mat " * 3, "a red circle above a blue square " * 2), ("one two three", "one two three four")]


def clip_regex():
    return Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def word_level():
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.normalizer = normalizers.Lowercase()
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator([c.lower() for c in CORPUS], trainers.WordLevelTrainer(
        vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.enable_truncation(16)
    t.enable_padding(pad_id=0, pad_token="[PAD]", length=16)
    return t


def word_level_left():
    """Cut and filled at the left; added words of every kind."""
    t = word_level()
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(),
                                         normalizers.Lowercase(), normalizers.Replace("colour", "color")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(),
                                               pre_tokenizers.Digits(individual_digits=True)])
    t.add_tokens([AddedToken("keyword", single_word=True, normalized=True), AddedToken("<mask>", lstrip=True, rstrip=True),
                  AddedToken("clé", normalized=True)])
    t.enable_truncation(12, direction="left")
    t.enable_padding(direction="left", pad_id=0, pad_token="[PAD]", pad_to_multiple_of=8)
    return t


def byte_bpe(prefix_space=False):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def roberta():
    t = byte_bpe(prefix_space=True)
    t.add_special_tokens(["<s>", "</s>", "<pad>", AddedToken("<mask>", lstrip=True, special=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    t.enable_truncation(20)
    return t


def clip():
    t = Tokenizer(models.BPE(unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>",
                             fuse_unk=False))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(clip_regex(), behavior="removed", invert=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator([c.lower() for c in CORPUS], trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", special_tokens=letters + [x + "</w>" for x in letters],
        initial_alphabet=letters))
    data = json.loads(t.to_str())
    data["added_tokens"] = []
    size = len(data["model"]["vocab"])
    for i, name in enumerate(["<|startoftext|>", "<|endoftext|>"]):
        data["model"]["vocab"][name] = size + i
        data["added_tokens"].append({"id": size + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                                     "normalized": i == 0, "special": True})
    data["model"]["unk_token"] = "<|endoftext|>"
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", size + 1), ("<|startoftext|>", size),
                                                    trim_offsets=False, add_prefix_space=False)
    t.enable_truncation(24)
    t.enable_padding(length=24, pad_id=size + 1, pad_token="<|endoftext|>")
    return t


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=420, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.enable_truncation(18)
    return t


def bert_cased():
    t = bert()
    t.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=None, clean_text=True)
    t.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    t.no_truncation()
    return t


def suffix_bpe():
    """Plain letters, an unknown token that is fused, cut at spaces, decoded by suffix."""
    t = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>", fuse_unk=True))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), behavior="removed")
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    t.train_from_iterator(CORPUS[:4], trainers.BpeTrainer(
        vocab_size=200, special_tokens=["[UNK]"], end_of_word_suffix="</w>"))
    return t


def split_behaviors(behavior):
    def make():
        t = Tokenizer(models.BPE(unk_token=None))
        t.normalizer = normalizers.NFD()
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[aeiou\s]"), behavior=behavior),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(CORPUS, trainers.BpeTrainer(
            vocab_size=330, special_tokens=["<pad>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return t
    return make


def llama():
    """Spaces as a sign of their own, no pre-tokenizer, what the vocabulary lacks as bytes."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=480, limit_alphabet=60, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    t.add_tokens([AddedToken("keyword", rstrip=True), AddedToken("  "), AddedToken("<mask>", lstrip=True, single_word=True)])
    t.enable_padding(direction="left", pad_id=2, pad_token="</s>", length=10, pad_to_multiple_of=8)
    return t


def metaspace():
    """Metaspace at the first piece only; the first text is cut at the left."""
    t = Tokenizer(models.BPE(unk_token="<unk>", ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>"]))
    t.add_special_tokens(["[MASK]"])
    t.enable_truncation(40, strategy="only_first", direction="left")
    return t


def edges():
    """Expressions that match nothing at a place, that look around, that name scripts and classes."""
    t = Tokenizer(models.BPE(unk_token=None))
    t.normalizer = normalizers.Replace(Regex(r"\w\b"), "$0")
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"(?=[A-Z\d])|\p{Han}|^[[:alpha:]]"), behavior="isolated"),
        pre_tokenizers.Split(Regex(r"[^\w\s]+|\p{Punctuation}"), behavior="merged_with_previous"),
        pre_tokenizers.CharDelimiterSplit("o"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<pad>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def row(t, text, pair=None):
    e = t.encode(text, pair) if pair is not None else t.encode(text)
    r = {"text": text, "ids": e.ids, "mask": e.attention_mask, "type_ids": e.type_ids,
         "decoded": t.decode(e.ids, skip_special_tokens=True), "decoded_all": t.decode(e.ids, skip_special_tokens=False)}
    if pair is not None:
        r["pair"] = pair
    return r


def main():
    made = {"wordlevel": word_level, "wordlevel_left": word_level_left, "bytes": byte_bpe, "roberta": roberta, "clip": clip,
            "bert": bert, "bert_cased": bert_cased, "suffix": suffix_bpe,
            "llama": llama, "metaspace": metaspace, "edges": edges}
    for b in ["isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        made["split_" + b] = split_behaviors(b)
    for name, make in made.items():
        t = make()
        with open(os.path.join(HERE, name + ".tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(json.loads(t.to_str()), f, ensure_ascii=True, separators=(",", ":"))
            f.write("\n")
        rows = [row(t, x) for x in TEXTS] + [row(t, a, b) for a, b in PAIRS]
        with open(os.path.join(HERE, name + ".rows.json"), "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in rows) + "\n]\n")


main()
