"""State-dependent noise with parameters that do not go together, for arrays and tensors."""

from ppo_fast.distributions import StateDependentNoise

# A change of the parameters as `noise_of` takes it, and the error that it makes.
NOISE_ERRORS = [
    (
        {"mean": [[0.0, 0.0]] * 4},
        TypeError,
        "mean must be a NumPy array or a torch tensor, got list",
    ),
    ({"log_std": None}, TypeError, "log_std must be a .* like mean, got NoneType"),
    ({"mean": (4,)}, ValueError, r"mean must have shape \(B, D\), got \(4,\)"),
    ({"latent": (5, 3)}, ValueError, r"latent must have shape \(4, L\), .*, got \(5, 3\)"),
    ({"latent": (1, 3)}, ValueError, r"latent must have shape \(4, L\), .*, got \(1, 3\)"),
    ({"latent": (4,)}, ValueError, r"latent must have shape \(4, L\), .*, got \(4,\)"),
    ({"log_std": (2, 2)}, ValueError, r"log_std must have shape \(3, 2\), .*, got \(2, 2\)"),
    ({"log_std": (3, 1)}, ValueError, r"log_std must have shape \(3, 2\), .*, got \(3, 1\)"),
    ({"log_std": (3,)}, ValueError, r"log_std must have shape \(3, 2\), .*, got \(3,\)"),
    ({"latent": "other"}, TypeError, "latent must be float32 like mean, got float64$"),
    ({"log_std": "other"}, TypeError, "log_std must be float32 like mean, got float64$"),
]


def noise_of(change, zeros):
    """A StateDependentNoise, of which a change is a shape, "other" for float64, or a value."""
    shapes = {"mean": (4, 2), "latent": (4, 3), "log_std": (3, 2)}
    fields = {name: zeros(shape, "float32") for name, shape in shapes.items()}
    for name, value in change.items():
        if isinstance(value, tuple):
            fields[name] = zeros(value, "float32")
        else:
            fields[name] = zeros(shapes[name], "float64") if value == "other" else value
    return StateDependentNoise(**fields)
