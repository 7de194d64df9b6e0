"""Every key, its default and what it means. An experiment's file changes some and returns the rest.

The keys are flat, so that any of them can be set from the command line: --config.beta=0.5
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"  # also the default work directory, runs/<name>
    config.task = "ep"  # ep: the network learns by `estimator`; teacher: a VGG by backprop
    config.seed = 0  # of parameters, data order, augmentation and initial states

    # Data
    config.dataset = "cifar10"  # digits | cifar10 | cifar100
    config.data_dir = ""  # of tensorflow_datasets; empty: $TFDS_DATA_DIR, or its own default
    config.train_size = 0  # class-balanced subset of the training images; 0: all
    config.test_size = 0  # the same for the test images
    config.split = "test"  # test | validation: a fifth of the training images, test untouched
    config.std_scale = 3.0  # CIFAR's std times this, as in the EP codebases; digits ignore it
    config.augment = True  # CIFAR: crop with edge padding 4, flip; digits: crop with padding 1

    # Network (Table 4): numbers are channels of 3x3 convolutions with padding 1 (64v: padding 0),
    # M is the 2x2 max pool of the convolution before it
    config.conv = "64 M 128 M 256 M 512 M 512 M"
    config.hidden = (512,)  # neurons of each hidden dense layer
    config.conv_activation = "hard_sigmoid"  # hard_sigmoid | relu; dense layers: hard_sigmoid
    config.gain = 1.0  # weights start as U(-gain/sqrt(fan_in), gain/sqrt(fan_in))
    config.output_loss = "cross_entropy"  # readout outside of Φ | squared_error: output neurons
    config.init_states = "zeros"  # zeros | uniform: U(0, 1), before the free phase

    # Intermediate signals (eq. 7-9, 13-16)
    config.signal = "none"  # none | le | kd | kdw
    config.signal_layers = ()  # Υ: neuron layers, 0 is the first convolution (after its pool)
    config.kappa = 0.0  # κ_init
    config.kappa_schedule = "cosine"  # constant | linear | exponential | cosine, per epoch
    config.kappa_min = 0.0  # κ_min of the cosine schedule
    config.kappa_gamma = 0.02  # γ of the exponential schedule, per epoch
    config.tau = 4.0  # temperature τ of the soft target loss
    config.learn_readout = True  # LE: B_i learn by eq. 15; False: fixed random B_i
    config.soften_labels = False  # LE: target softmax(onehot/τ), the literal eq. 7, not onehot
    config.softmax_axis = "all"  # KD, KDW: softmax over all units | channel: at each position

    # Gradient estimator and dynamics
    config.estimator = "ep"  # ep | bptt | implicit
    config.ep_variant = "centered"  # centered (eq. 4) | one_sided (eq. 3) | random_sign
    config.beta = 0.25  # nudging factor β
    config.t_free = 250  # sweeps of the free phase: exactly (fixed), or at most
    config.t_nudge = 50  # the same for each nudged phase
    config.bptt_steps = 0  # bptt: through how many of the last sweeps; 0: all
    # The quickest way to a settled gradient in benchmarks/results/solvers.json, on every net with
    # trained weights; the paper's own phases are solver fixed, order synchronous, relaxation 1.
    config.solver = "tolerance"  # fixed | tolerance | fixed_point | anderson (both of jaxopt)
    config.tol_free = 1e-3  # relative residual at which the free phase stops; unused by fixed
    config.tol_nudge = 2e-4  # the same for the nudged phases, whose displacement is small
    config.order = "alternating"  # alternating: even, then odd layers | synchronous (the paper)
    config.relaxation = 1.7  # ω in (0, 2); over 1: over-relaxation
    config.precision = "float32"  # of states and products | bfloat16 (ep only; not tried at scale)
    config.micro_batch = 0  # images of a device that settle at once; 0: 16 on a CPU, else all

    # Optimizer: SGD, one learning rate for each weighted layer from the image upwards
    config.learning_rates = (0.03,) * 7
    config.momentum = 0.9
    config.weight_decay = 3e-4  # coupled, on every parameter
    config.lr_schedule = "cosine"  # cosine to 0 over the run | constant
    config.batch_size = 128
    config.eval_batch_size = 200
    config.epochs = 250
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
