"""Every key, its default and what it means. An experiment's file changes some and returns the rest.

The keys are flat, so that any of them can be set from the command line: --config.beta=0.5
"""

from typing import Any

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"  # also the default work directory, runs/<name>
    # ep: the network learns by `estimator` | teacher: a VGG by backprop | blocks: the layers of the
    # network, cut into `blocks` that settle one after the other, batch norm between them
    config.task = "ep"
    config.seed = 0  # of parameters, data order, augmentation and initial states

    # Data: digits | cifar10 | cifar100 | mnist | fashion_mnist | svhn_cropped, or the path of an
    # .npz file: images and labels, or train_images, train_labels, test_images and test_labels;
    # empty: those that a script gives to fit(settings, workdir, data=...)
    config.dataset = "cifar10"
    config.data_dir = ""  # of tensorflow_datasets; empty: $TFDS_DATA_DIR, or its own default
    config.train_size = 0  # class-balanced subset of the training images; 0: all
    config.test_size = 0  # the same for the test images
    config.split = "test"  # test | validation: a fifth of the training images, test untouched
    config.std_scale = 3.0  # CIFAR's std times this, as in the EP codebases; others ignore it
    # Random crops with edge padding: CIFAR and SVHN 4, MNIST and Fashion-MNIST 2, digits 1 pixels;
    # random mirror images: CIFAR and Fashion-MNIST. Images of an .npz file stay as they are.
    config.augment = True

    # Network (Table 4). A number is a convolution of so many channels, 3x3, stride 1,
    # padded to keep the size; 64v: padding 0; 64k5: kernel 5x5; 64s2: stride 2; M and A: 2x2 max
    # and average pool of the convolution before; R64: residual block. Empty: dense layers alone
    config.conv = "64 M 128 M 256 M"
    config.hidden = _any((512,))  # neurons of each hidden dense layer
    config.blocks = 1  # task blocks: how many, as even as can be
    # wiring all: share of the pairs of units in layers that are no neighbours which are joined
    config.skips = 1.0
    config.wiring = "chain"  # chain | all: every layer joined with every other (conv empty)
    # hard_sigmoid | relu | relu6 | hard_tanh | tanh | sigmoid | shifted_sigmoid | soft_clip |
    # softplus | linear
    config.conv_activation = "hard_sigmoid"
    config.dense_activation = "hard_sigmoid"  # of hidden dense layers
    config.output_activation = ""  # of the output neurons of a squared error; empty: as dense
    # Weights start as U(-gain/sqrt(fan_in), gain/sqrt(fan_in)). A number for all, a tuple in the
    # order of the weights (conv1, ..., fc1, ..., readout), or {"conv1": 0.5, "default": 1.0}
    config.gain = _any(1.0)
    # hopfield (the paper) | predictive_coding (relu, a linear output; t_free 0: it starts settled)
    # | vector_field (feedback weights of their own) | feedback (weaker than the drive)
    config.system = "hopfield"
    config.feedback = 1.0  # system feedback: a step down is weaker by this, over 0 and at most 1
    # Of the systems over tokens, which are the rows of the images (conv empty): sequence (a layer
    # that retrieves them, then `hidden`) and energy_transformer (hidden empty)
    config.retrieval = 0.0  # inverse temperature of the softmax; 0: 1/sqrt(size of a query)
    config.places = 0.0  # sequence: over 0, a token ends with its place, one-hot times this
    config.dim = 64  # energy_transformer: size of a token
    config.heads = 4  # energy_transformer: of its attention, dim/heads each; 0: none
    config.memories = 256  # energy_transformer: relu units of each token
    # vector_field: weight of the penalty 1/2 Σ ||kernel - feedback||²
    config.alignment = 0.0
    config.output_loss = "cross_entropy"  # readout outside of Φ | squared_error: output neurons
    config.init_states = "zeros"  # zeros | uniform: U(0, 1), before the free phase

    # Intermediate signals (eq. 7-9, 13-16)
    config.signal = "none"  # none | le | kd | kdw
    # Υ: neuron layers, by number (0 is the first convolution, after its pool) or by name
    config.signal_layers = _any(())
    config.kappa = 0.0  # κ_init
    config.kappa_schedule = "cosine"  # constant | linear | exponential | cosine, per epoch
    config.kappa_min = 0.0  # κ_min of the cosine schedule
    config.kappa_gamma = 0.02  # γ of the exponential schedule, per epoch
    config.tau = 4.0  # temperature τ of the soft target loss
    config.learn_readout = True  # LE: B_i learn by eq. 15; False: fixed random B_i
    config.soften_labels = False  # LE: target softmax(onehot/τ), the literal eq. 7, not onehot
    config.softmax_axis = "all"  # KD, KDW: softmax over all units | channel: at each position

    # Gradient estimator and dynamics
    # ep | continual: weights move in each of exactly t_nudge nudged sweeps | bptt | implicit |
    # backprop (where t_free may be 0)
    config.estimator = "ep"
    # centered (eq. 4) | one_sided (eq. 3) | random_sign | four_point (±β, ±2β: error β^4) |
    # holomorphic (β e^{2πim/N}: error β^N; average pools, and a σ as tanh or soft_clip)
    config.ep_variant = "centered"
    config.points = 4  # holomorphic: N, of N // 2 + 1 phases; 2 is centered
    config.field_correction = True  # ep of a vector_field: exact | False: naive, biased
    config.beta = 0.25  # nudging factor β
    config.t_free = 250  # sweeps of the free phase: exactly (fixed), or at most
    config.t_nudge = 50  # the same for each nudged phase
    config.continual_rate = 0.03  # continual: at which weights move within a nudged phase
    config.bptt_steps = 0  # bptt: through how many of the last sweeps; 0: all
    # The quickest way to a settled gradient in benchmarks/results/solvers.json, on every net with
    # trained weights; the paper's own phases are solver fixed, order synchronous, relaxation 1.
    # fixed | tolerance | fixed_point | anderson (both of jaxopt) | event_driven: as fixed (ep only)
    config.solver = "tolerance"
    config.event_step = 1 / 64  # event_driven: unit of the messages between neurons
    config.tol_free = 1e-3  # relative residual at which the free phase stops; unused by fixed
    config.tol_nudge = 2e-4  # the same for the nudged phases, whose displacement is small
    config.order = "alternating"  # alternating: one block after the other | synchronous (the paper)
    config.relaxation = 1.7  # ω in (0, 2); over 1: over-relaxation
    config.precision = "float32"  # of states and products | bfloat16 (ep only; not tried at scale)
    config.micro_batch = 0  # images of a device that settle at once; 0: 16 on a CPU, else all

    # Optimizer
    # sgd | adam (both: weight decay joins the gradient) | adamw (apart) | bop (kernels are ±α and
    # flip; sgd for biases)
    config.optimizer = "sgd"
    config.flip_threshold = 1e-6  # bop: τ, of the mean gradient along a weight that flips
    config.flip_rate = 1e-3  # bop: γ of that running mean
    config.scale_rate = 0.0  # bop: learning rate of α; 0: it stays the mean |w| of the start
    # A number for all weights, a tuple in their order, or by name: {"conv1": 0.1, "default": 0.03};
    # a signal's map has the rate of the layer it reads
    config.learning_rates = _any(0.03)
    config.momentum = 0.9  # β1 of adam and adamw
    config.nesterov = False  # momentum that looks ahead
    config.weight_decay = 3e-4  # on every parameter
    config.lr_schedule = "cosine"  # cosine to 0 over the run | constant
    config.batch_size = 128
    config.eval_batch_size = 200
    config.epochs = 250  # may grow where neither lr_schedule nor kappa_schedule looks at the end
    config.keep_checkpoints = 2  # the last ones; the best is kept as well
    # Updates between checkpoints within an epoch, 0: only at its end. A kill costs no more updates
    # than this; the digits' epochs are shorter, the paper's have four such parts.
    config.checkpoint_every = 100
    # An update whose loss, gradients or states are not finite: stop the run with exit status 3 and
    # the last checkpoint kept | skip: drop the update and count it in metrics.csv
    config.on_divergence = "stop"

    # Teacher of KD and KDW
    config.teacher = ""  # its config file, e.g. configs/teacher_vgg19_cifar10.py
    config.teacher_workdir = ""  # where it was trained; empty: runs/<its name>
    config.train_teacher = False  # train it first where no trained one is found
    return config


def _any(default: Any) -> FieldReference:
    """A key that takes values of several types.

    A ConfigDict holds a key to the type of its default otherwise, and the command line adds up the
    tuples that it is given for a tuple.
    """
    return FieldReference(default, field_type=object)
