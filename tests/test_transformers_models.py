"""Models built from Transformers configurations: a head-only spec is clean, with no input shape from anybody."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from tests.probe.verified import facts, loud, sgd, verified

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
T5 = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 64,
    "decoder_start_token_id": 0,
}
WHISPER = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 64, "num_mel_bins": 8, "max_source_positions": 30,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
    "begin_suppress_tokens": None,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
# Name → the model, and the path of its head.
MODELS = {
    "bert": (lambda: hf.BertForSequenceClassification(hf.BertConfig(**SMALL, vocab_size=64)), "classifier"),
    "gpt2": (lambda: hf.GPT2ForSequenceClassification(hf.GPT2Config(**GPT2, pad_token_id=0)), "score"),
    "vit": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**SMALL, image_size=32, patch_size=8)), "classifier"),
    "t5": (lambda: hf.T5ForSequenceClassification(hf.T5Config(**T5)), "classification_head"),
    "t5_generating": (lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)), "decoder.final_layer_norm"),
    "whisper": (lambda: hf.WhisperForAudioClassification(hf.WhisperConfig(**WHISPER)), "classifier"),
    "whisper_generating": (
        lambda: hf.WhisperForConditionalGeneration(hf.WhisperConfig(**WHISPER)),
        "model.decoder.layer_norm",
    ),
    "llama": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, vocab_size=64, num_key_value_heads=1)),
        "lm_head",
    ),
    "mixtral": (
        lambda: hf.MixtralForCausalLM(
            hf.MixtralConfig(**SMALL, vocab_size=64, num_key_value_heads=1, num_local_experts=8)
        ),
        "lm_head",
    ),
}


def built(name: str) -> tuple[torch.nn.Module, str]:
    torch.manual_seed(0)
    make, head = MODELS[name]
    return make(), head


@pytest.mark.parametrize("name", MODELS)
def test_a_head_only_spec_is_clean(name: str) -> None:
    """Only the head trains, only the head moves, and nothing worse than a note is found."""
    model, head = built(name)
    for parameter_name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(parameter_name.startswith(f"{head}."))
    result = verified(model, f"trainable = ['{head}']", optimizer=sgd(model), inputs=None)
    assert loud(result) == []
    rows = facts(result)
    assert {n for n, row in rows.items() if row.moved} == {n for n, p in model.named_parameters() if p.requires_grad}
    assert "config" in result.report.case.conditions.inputs


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trained_whole_is_clean(name: str) -> None:
    """Nothing worse than a note is found when everything trains."""
    model, _ = built(name)
    assert loud(verified(model, inputs=None)) == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_with_input_gradients(reentrant: bool) -> None:
    """`enable_input_require_grads` keeps a checkpointed, frozen-below model alive: nothing is said of a cut."""
    model, _ = built("llama")
    model.requires_grad_(False)
    trained = model.model.layers[1].self_attn.v_proj
    trained.requires_grad_(True)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    result = verified(model, "trainable = ['model.layers[1].self_attn.v_proj']", optimizer=sgd(model), inputs=None)
    assert loud(result) == []
    assert facts(result)["model.layers.1.self_attn.v_proj.weight"].moved
    assert not facts(result)["model.embed_tokens.weight"].moved


def test_lora_by_peft_is_clean() -> None:
    """A LoRA that PEFT put in: B starts at zero, and the head is trained as well."""
    peft = pytest.importorskip("peft")
    model, _ = built("bert")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    assert loud(verified(peft.get_peft_model(model, config), inputs=None)) == []
