import torch

D_in, H, D_out = 12, 24, 2

# Use the nn package to define our model
model = torch.nn.Sequential(
    torch.nn.Linear(D_in, H),
    torch.nn.BatchNorm1d(H),
    torch.nn.ReLU(),
    torch.nn.Linear(H, H),
    torch.nn.BatchNorm1d(H),
    torch.nn.ReLU(),
    torch.nn.Linear(H, H),
    torch.nn.BatchNorm1d(H),
    torch.nn.ReLU(),
    torch.nn.Linear(H, H),
    torch.nn.BatchNorm1d(H),
    torch.nn.ReLU(),
    torch.nn.Linear(H, D_out),
)
loss_fn = torch.nn.MSELoss(reduction='sum')


def train():
    x, y = torch.randn(64, D_in), torch.randn(64, D_out)
    learning_rate = 1e-4
    for t in range(500):
        loss = loss_fn(model(x), y)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for param in model.parameters():
                param -= learning_rate * param.grad


if __name__ == '__main__':
    train()
