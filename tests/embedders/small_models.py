"""Small models of sentence-transformers, made here and saved into folders: a transformer with random weights that reads
64 tokens, and wordllama's own table of token vectors as a static embedding, which is a trained one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import wordllama
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LONGEST: Final = 64
DIMENSIONS: Final = 32


def save_transformer(folder: Path, prompts: Mapping[str, str] | None = None, default_prompt: str | None = None) -> Path:
    """A BERT of two layers with a vocabulary of characters; mean pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    tokenizer = _characters()
    size = tokenizer.get_vocab_size()
    config = BertConfig(
        vocab_size=size,
        hidden_size=DIMENSIONS,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LONGEST,
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    BertModel(config).save_pretrained(folder / "bare")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **names)
    wrapped.save_pretrained(folder / "bare")
    whole = SentenceTransformer(
        str(folder / "bare"), device="cpu", prompts=dict(prompts or {}), default_prompt_name=default_prompt
    )
    whole.save(str(folder / "model"))
    return folder / "model"


def save_static(folder: Path) -> Path:
    """wordllama's table and tokenizer: 256 dimensions, trained for prefixes of 64 and 128."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    package = Path(wordllama.__file__).parent
    (table,) = load_file(package / "weights" / "l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_truncation()
    static = StaticEmbedding(tokenizer, embedding_weights=torch.tensor(table, dtype=torch.float32))
    SentenceTransformer(modules=[static], device="cpu").save(str(folder / "static"))
    return folder / "static"


def _characters() -> Tokenizer:
    """Lower-cased characters, words cut into them; two special tokens around each text."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
