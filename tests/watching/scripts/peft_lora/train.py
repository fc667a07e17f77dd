"""LoRA on a small GPT-2 classifier; the new classification head is trained beside the adapters."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2ForSequenceClassification

torch.manual_seed(0)
config = GPT2Config(vocab_size=50, n_positions=32, n_embd=32, n_layer=2, n_head=2, num_labels=3, pad_token_id=0)
model = GPT2ForSequenceClassification(config)
lora = LoraConfig(r=4, target_modules=["c_attn"], modules_to_save=["score"], task_type="FEATURE_EXTRACTION")
model = get_peft_model(model, lora)

optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)

model.train()
for step in range(10):
    ids = torch.randint(1, 50, (4, 12))
    labels = torch.randint(0, 3, (4,))
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    print(step, loss.item())
