"""A WGAN with gradient penalty: the critic takes five steps for each of the generator's."""

import torch
from torch import nn

N_CRITIC = 5

generator = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.0, 0.9))
opt_c = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))


def gradient_penalty(real, fake):
    mix = torch.rand(len(real), 1)
    points = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return ((gradient.norm(2, dim=1) - 1) ** 2).mean()


for iteration in range(60):
    real = torch.randn(16, 2) + 3
    fake = generator(torch.randn(16, 8)).detach()
    loss_c = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(real, fake)
    opt_c.zero_grad()
    loss_c.backward()
    opt_c.step()

    if iteration % N_CRITIC == N_CRITIC - 1:
        for p in critic.parameters():
            p.requires_grad_(False)
        samples = generator(torch.randn(16, 8))
        loss_g = -critic(samples).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        for p in critic.parameters():
            p.requires_grad_(True)
        print(iteration, loss_c.item(), loss_g.item())
