"""Data of your own, as arrays in memory, train a network by the same loop as the command."""

from sklearn.datasets import load_digits

from jaxep.training import Settings, fit, from_arrays

images, labels = load_digits(return_X_y=True)
images = (images * (255 / 16)).astype("uint8").reshape(-1, 8, 8)
data = from_arrays(images[:1500], labels[:1500], images[1500:], labels[1500:])

settings = Settings(
    name="own_data",
    conv="16 M 32 M",
    hidden=(64,),
    signal="le",
    signal_layers=(0, 1),
    kappa=0.5,
    beta=1.0,
    t_free=12,
    t_nudge=6,
    solver="fixed",
    relaxation=1.0,
    learning_rates=0.02,
    batch_size=50,
    epochs=8,
)
summary = fit(settings, "runs/own_data", data=data)
print(f"test accuracy {100 * summary['final_test_accuracy']:.1f} %")
