/* test_config.c - every kind of configuration error with its exact location, defaults, overrides, the round trip of the
 * resolved configuration, and what a resume may change. */
#include <string.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/config/config.h"
#include "trainer/config/config_internal.h"

#define GOOD                \
    "model:\n"              \
    "  arch: sdnet18\n"     \
    "data:\n"               \
    "  train: data/train\n" \
    "train:\n"              \
    "  epochs: 10\n"        \
    "  batch: 128\n"

static enum status parse(struct config *config, const char *text, const char *override)
{
    char *overrides[] = { (char *) override };
    return config_parse(config, "t.yaml", text, strlen(text), overrides, override ? 1 : 0);
}

static void check_error(const char *text, const char *override, const char *expected)
{
    struct config config;
    status_clear();
    enum status status = parse(&config, text, override);
    CHECK(status == STATUS_USAGE, "status %d for %s", status, expected);
    CHECK(strcmp(status_message(), expected) == 0, "\n  got      %s\n  expected %s", status_message(), expected);
    config_finish(&config);
}

static const struct {
    const char *text, *expected;
} file_errors[] = {
    { GOOD "csc:\n  steps: 2\n  lambada: 0.1\n", "t.yaml:10:3: unknown key 'lambada' (did you mean 'lambda'?)" },
    { GOOD "trian:\n  lr: 1\n", "t.yaml:8:1: unknown key 'trian' (did you mean 'train'?)" },
    { GOOD "lambda: 1\n", "t.yaml:8:1: unknown key 'lambda' (did you mean 'csc.lambda'?)" },
    { GOOD "train.lr: 1\n", "t.yaml:8:1: unknown key 'train.lr' (in a file, write 'lr:' under 'train:')" },
    { GOOD "  shedule:\n    kind: step\n", "t.yaml:8:3: unknown key 'shedule' (did you mean 'schedule'?)" },
    { GOOD "zzzzzz: 1\n", "t.yaml:8:1: unknown key 'zzzzzz'" },
    { GOOD "<<: {lr: 1}\n", "t.yaml:8:1: unknown key '<<'" },
    { GOOD "  lr: 0.1\n  lr: 0.2\n", "t.yaml:9:3: duplicate key 'train.lr' (first on line 8)" },
    { GOOD "data:\n  val: x\n", "t.yaml:8:1: duplicate key 'data'" },
    { GOOD "? [a]\n: 1\n", "t.yaml:8:3: expected the name of a key" },
    { GOOD "csc: 5\n", "t.yaml:8:6: 'csc' is a section: expected keys below it" },
    { GOOD "csc:\n", "t.yaml:8:5: 'csc' is a section: expected keys below it" },
    /* types */
    { GOOD "  lr: fast\n", "t.yaml:8:7: train.lr: expected a number, got 'fast'" },
    { GOOD "  lr: \"0.1\"\n", "t.yaml:8:7: train.lr: expected a number, got the text '0.1'" },
    { GOOD "  lr: .nan\n", "t.yaml:8:7: train.lr: expected a number, got '.nan'" },
    { GOOD "  lr: nan\n", "t.yaml:8:7: train.lr: expected a number, got 'nan'" },
    { GOOD "  lr: -.inf\n", "t.yaml:8:7: train.lr: expected a number, got '-.inf'" },
    { GOOD "  lr: inf\n", "t.yaml:8:7: train.lr: expected a number, got 'inf'" },
    { GOOD "  lr: 0x1p3\n", "t.yaml:8:7: train.lr: expected a number, got '0x1p3'" },
    { GOOD "  lr: 1e999\n", "t.yaml:8:7: train.lr must be above 0, not '1e999'" },
    { GOOD "  lr: [0.1]\n", "t.yaml:8:7: train.lr: expected one value, got a list" },
    { GOOD "  lr: {a: 1}\n", "t.yaml:8:7: train.lr: expected a value, got a mapping" },
    { GOOD "  lr:\n", "t.yaml:8:6: train.lr: expected a number, got ''" },
    { GOOD "  nesterov: yes\n", "t.yaml:8:13: train.nesterov: expected true or false, got 'yes'" },
    { GOOD "  nesterov: on\n", "t.yaml:8:13: train.nesterov: expected true or false, got 'on'" },
    { GOOD "  nesterov: True\n", "t.yaml:8:13: train.nesterov: expected true or false, got 'True'" },
    { GOOD "  nesterov: \"true\"\n", "t.yaml:8:13: train.nesterov: expected true or false, got the text 'true'" },
    { GOOD "csc:\n  steps: 2.5\n", "t.yaml:9:10: csc.steps: expected a whole number, got '2.5'" },
    { GOOD "csc:\n  steps: 010\n", "t.yaml:9:10: csc.steps: expected a whole number, got '010'" },
    { GOOD "csc:\n  steps: 1_000\n", "t.yaml:9:10: csc.steps: expected a whole number, got '1_000'" },
    { GOOD "csc:\n  step_size: none\n", "t.yaml:9:14: csc.step_size: expected a number or 'auto', got 'none'" },
    { GOOD "  steps: auto\n", "t.yaml:8:10: train.steps: expected a whole number or 'none', got 'auto'" },
    { GOOD "csc:\n  backward: exact\n",
      "t.yaml:9:13: csc.backward: expected one of unrolled, one-step, implicit, got 'exact'" },
    { "data:\n  train: a\n  shuffle: \"true\"\n",
      "t.yaml:3:12: data.shuffle: expected one of false, true, window, got the text 'true'" },
    { "data:\n  train: ~\n", "t.yaml:2:10: data.train: expected text, got null" },
    { "data:\n  val: null\n", "t.yaml:2:8: data.val: expected text, got null; write none" },
    { "data:\n  train:\n", "t.yaml:2:9: data.train: expected text, got nothing" },
    { "data:\n  train: \"\"\n", "t.yaml:2:10: data.train must not be empty" },
    { "data:\n  train: \"a\\tb\"\n", "t.yaml:2:10: control character U+0009" },
    { "data:\n  train: \"a\\0b\"\n", "t.yaml:2:10: text with a NUL character" },
    { "model:\n  layers: layer0\n", "t.yaml:2:11: model.layers: expected a list or 'auto', got 'layer0'" },
    { "model:\n  layers: [a, [b]]\n", "t.yaml:2:15: model.layers: a list within a list, or a mapping, is too deep" },
    { "model:\n  layers: [a, b: c]\n", "t.yaml:2:15: model.layers: a list within a list, or a mapping, is too deep" },
    { "model:\n  layers:\n  - a\n  - b\n  - a\n", "t.yaml:5:5: model.layers: 'a' appears twice" },
    { "data:\n  mean: [0.5, 0.5]\n", "t.yaml:2:9: data.mean: expected 3 numbers, got 2" },
    { "data:\n  mean: [0.5, 0.5, x]\n", "t.yaml:2:20: data.mean: expected a number, got 'x'" },
    /* ranges */
    { GOOD "run:\n  seed: -1\n", "t.yaml:9:9: run.seed must be 0 to 9223372036854775807, not '-1'" },
    { GOOD "run:\n  seed: 9223372036854775808\n",
      "t.yaml:9:9: run.seed must be 0 to 9223372036854775807, not '9223372036854775808'" },
    { GOOD "run:\n  log_every: 0\n", "t.yaml:9:14: run.log_every must be at least 1, not '0'" },
    { GOOD "csc:\n  steps: 1001\n", "t.yaml:9:10: csc.steps must be 1 to 1000, not '1001'" },
    { GOOD "csc:\n  lambda: -0.1\n", "t.yaml:9:11: csc.lambda must be at least 0, not '-0.1'" },
    { GOOD "csc:\n  step_size: 0\n", "t.yaml:9:14: csc.step_size must be above 0, not '0'" },
    { GOOD "  momentum: 1\n", "t.yaml:8:13: train.momentum must be 0 to below 1, not '1'" },
    { GOOD "  schedule:\n    gamma: 0\n", "t.yaml:9:12: train.schedule.gamma must be above 0 to 1, not '0'" },
    { GOOD "checkpoint:\n  keep: 0\n", "t.yaml:9:9: checkpoint.keep must be at least 1, not '0'" },
    { "data:\n  std: [0.2, 0, 0.2]\n", "t.yaml:2:14: data.std must be above 0 to 1, not '0'" },
    { "model:\n  classes: 1\n", "t.yaml:2:12: model.classes must be 2 to 1048576, not '1'" },
    /* YAML */
    { GOOD "---\n" GOOD, "t.yaml:8:1: several documents in one configuration" },
    { "", "t.yaml:1:1: an empty configuration" },
    { "# nothing\n", "t.yaml:2:1: an empty configuration" },
    { "- a\n", "t.yaml:1:1: expected sections of keys, such as 'model:'" },
    { "train: &a\n  lr: 1\n", "t.yaml:1:8: YAML anchors are not allowed here" },
    { "train:\n  lr: *a\n", "t.yaml:2:7: YAML aliases are not allowed here" },
    { "train:\n  lr: !!float 1\n", "t.yaml:2:7: YAML tags are not allowed here" },
    { "train:\n  lr: ! 1\n", "t.yaml:2:7: YAML tags are not allowed here" },
    { "!x {a: 1}\n", "t.yaml:1:1: YAML tags are not allowed here" },
    { "train:\n  lr: 1\n b: 2\n", "t.yaml:3:2: not YAML: did not find expected key, while parsing a block mapping" },
    { "train:\n  lr: batch: 1\n", "t.yaml:2:7: train.lr: expected a number, got 'batch'" },
    { "train: }\n", "t.yaml:1:8: not YAML: did not find expected node content, while parsing a block node" },
    { "train:\n\tlr: 1\n",
      "t.yaml:2:1: not YAML: found character that cannot start any token, while scanning for the next token" },
    { "train: [a\n", "t.yaml:1:8: 'train' is a section: expected keys below it" },
    { "model:\n  layers: [a\n",
      "t.yaml:3:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence" },
    { "train:\n  # caf\xe9\n", "t.yaml:2:8: not UTF-8 (byte 0xe9)" },
    { "# \xc3\xa9 \xc0\xaf\n", "t.yaml:1:5: not UTF-8 (byte 0xc0)" },
    { "# \xed\xa0\x80\n", "t.yaml:1:3: not UTF-8 (byte 0xed)" },
    { "# \xe2\x82", "t.yaml:1:3: not UTF-8 (byte 0xe2)" },
    { "\xef\xbb\xbftrian:\n  lr: 1\n", "t.yaml:1:1: unknown key 'trian' (did you mean 'train'?)" },
    { "\xef\xbb\xbf\xef\xbb\xbfmodel:\n", "t.yaml:1:1: control character U+FEFF" },
    { "\xff\xfe"
      "a\n",
      "t.yaml:1:1: not UTF-8 (byte 0xff)" },
    { "a: \x01\n", "t.yaml:1:4: control character U+0001" },
    /* checks across keys */
    { "data:\n  train: a\ntrain:\n  epochs: 1\n  batch: 1\n", "t.yaml: model.arch is required" },
    { "model:\n  arch: sdnet18\ntrain:\n  epochs: 1\n  batch: 1\n", "t.yaml: data.train is required" },
    { "model: {arch: sdnet18}\ndata: {train: a}\ntrain: {epochs: 1}\n", "t.yaml: train.batch is required" },
    { "model: {arch: sdnet18}\ndata: {train: a}\ntrain: {batch: 1}\n",
      "t.yaml: train.epochs or train.steps is required" },
    { GOOD "  steps: 7\n", "t.yaml:8:10: train.epochs and train.steps are both given; give one" },
    { GOOD "  micro_batch: 48\n", "t.yaml:8:16: train.micro_batch of 48 does not divide train.batch of 128" },
    { GOOD "  nesterov: true\n  momentum: 0\n", "t.yaml:8:13: train.nesterov needs train.momentum above 0" },
    { "model:\n  arch: sdnet18\n  shortcut: false\n"
      "data: {train: a}\ntrain: {epochs: 1, batch: 1}\n",
      "t.yaml:3:13: model.shortcut: only the -all networks can drop their shortcuts" },
    { "model:\n  arch: sdnet18\n  width: 30\n"
      "data: {train: a}\ntrain: {epochs: 1, batch: 1}\n",
      "t.yaml:3:10: model.width must be a multiple of 4, not 30" },
    { GOOD "  schedule:\n    kind: step\n", "t.yaml:9:11: train.schedule.kind: step needs train.schedule.milestones" },
    { GOOD "  schedule:\n    milestones: [3]\n",
      "t.yaml:9:17: train.schedule.milestones needs train.schedule.kind: step" },
    { GOOD "  schedule:\n    kind: step\n    milestones: [3, 3]\n",
      "t.yaml:10:17: train.schedule.milestones must ascend, but 3 follows 3" },
    { GOOD "  schedule:\n    kind: step\n    milestones: [3, 10]\n",
      "t.yaml:10:17: train.schedule.milestones: 10 is not before the end of 10 epochs" },
    { GOOD "  schedule:\n    warmup_epochs: 11\n",
      "t.yaml:9:20: train.schedule.warmup_epochs of 11 is longer than the run's 10 epochs" },
    { GOOD "  schedule:\n    kind: constant\n    final_lr: 0.01\n",
      "t.yaml:10:15: train.schedule.final_lr needs train.schedule.kind: cosine or onecycle" },
    { GOOD "  schedule:\n    final_lr: 0.2\n", "t.yaml:9:15: train.schedule.final_lr of 0.2 is above train.lr of 0.1" },
    { GOOD "run: {name: a/b}\n", "t.yaml:8:13: run.name must be a file's name of at most 200 bytes, not 'a/b'" },
};

static const struct {
    const char *override, *expected;
} override_errors[] = {
    { "train.lr=abc", "override 'train.lr=abc': train.lr: expected a number, got 'abc'" },
    { "train.lr=-1", "override 'train.lr=-1': train.lr must be above 0, not '-1'" },
    { "train.lr", "override 'train.lr': expected key=value" },
    { "train.lr=", "override 'train.lr=': no value" },
    { "train.lr=# 1", "override 'train.lr=# 1': no value" },
    { "train.lr=\"0.1\"", "override 'train.lr=\"0.1\"': train.lr: expected a number, got the text '0.1'" },
    { "train.lr={a: 1}", "override 'train.lr={a: 1}': value: expected a value, got a mapping" },
    { "train.lr=*a", "override 'train.lr=*a': YAML aliases are not allowed here" },
    { "train.lr=1 --- 2", "override 'train.lr=1 --- 2': train.lr: expected a number, got '1 --- 2'" },
    { "train.lr=[1",
      "override 'train.lr=[1': not YAML: did not find expected ',' or ']', while parsing a flow sequence" },
    { "lr=0.1", "override 'lr=0.1': unknown key 'lr' (did you mean 'train.lr'?)" },
    { "csc.lambada=1", "override 'csc.lambada=1': unknown key 'csc.lambada' (did you mean 'lambda'?)" },
    { "trian.lr=1", "override 'trian.lr=1': unknown key 'trian.lr' (did you mean 'train'?)" },
    { "train=1", "override 'train=1': unknown key 'train' (it is a section; give train.KEY=VALUE)" },
    { "model.layers=a", "override 'model.layers=a': model.layers: expected a list or 'auto', got 'a'" },
    { "data.val=\xff", "override 'data.val=?': not UTF-8 (byte 0xff)" },
    { "train.micro_batch=3",
      "override 'train.micro_batch=3': train.micro_batch of 3 does not divide train.batch of 128" },
};

static void check_defaults(void)
{
    struct config c;
    CHECK(parse(&c, "\xef\xbb\xbf" GOOD, NULL) == STATUS_OK, "a byte order mark: %s", status_message());
    config_finish(&c);
    CHECK(parse(&c, GOOD, NULL) == STATUS_OK, "%s", status_message());
    CHECK(strcmp(c.run.name, "t") == 0 && strcmp(c.run.dir, "runs/t") == 0, "%s %s", c.run.name, c.run.dir);
    CHECK(c.run.seed == 1 && c.run.log_every == 20 && !c.run.deterministic, "run");
    CHECK(c.model.arch == CONFIG_ARCH_SDNET18 && c.model.classes == 0 && c.model.stem == CONFIG_STEM_AUTO &&
              c.model.width == 64 && c.model.shortcut && !c.model.layers && !c.model.init_from,
          "model");
    CHECK(c.csc.steps == 2 && c.csc.lambda == 0.1 && c.csc.mu == 0 && c.csc.nonnegative && c.csc.step_size == 0 &&
              c.csc.power_iterations == 2 && c.csc.backward == CONFIG_BACKWARD_UNROLLED,
          "csc");
    CHECK(strcmp(c.data.train, "data/train") == 0 && !c.data.val && c.data.augment == -1 &&
              c.data.shuffle == SHUFFLE_FULL && c.data.window == 65536 && c.data.image_size == 0 &&
              c.data.workers == 0 && c.data.prefetch == 3 && c.data.mean[0] < 0 && c.data.std[2] < 0 &&
              c.data.bad_sample == CONFIG_STOP && !c.data.cache && c.data.cache_gb == 0,
          "data");
    CHECK(c.train.epochs == 10 && c.train.steps == 0 && c.train.batch == 128 && c.train.micro_batch == 0 &&
              c.train.optimizer == CONFIG_SGD && c.train.lr == 0.1 && c.train.momentum == 0.9 && !c.train.nesterov &&
              c.train.weight_decay == 1e-4 && c.train.decay_norm_and_bias && !c.train.zero_gamma &&
              c.train.label_smoothing == 0 && c.train.ema == 0 && c.train.clip == 0,
          "train");
    CHECK(c.train.schedule.kind == CONFIG_COSINE && c.train.schedule.warmup_epochs < 0 &&
              !c.train.schedule.milestones && c.train.schedule.gamma == 0.1 && c.train.schedule.final_lr == 0 &&
              c.train.on_nonfinite == CONFIG_STOP,
          "schedule");
    CHECK(c.eval.every_epochs == 1 && c.eval.batch == 0 && c.device.kind == CONFIG_DEVICE_AUTO &&
              c.device.precision == CONFIG_PRECISION_AUTO && c.device.threads == 0,
          "eval, device");
    CHECK(c.comm.bucket_mb == 0 && c.comm.grad_dtype == COMM_F32 && c.comm.timeout_s == 600 &&
              c.checkpoint.every_steps == 0 && c.checkpoint.every_epochs == 1 && c.checkpoint.every_minutes == 0 &&
              c.checkpoint.keep == 3 && !c.log.tensorboard && c.log.pictures_every_epochs == 0,
          "comm, checkpoint, log");
    config_finish(&c);
}

static void check_overrides(void)
{
    struct config c;
    char *overrides[] = { "train.steps=5",
                          "model.layers=[layer0.0, \"layer1.0\"]",
                          "data.val=none",
                          "data.train=a: b #c",
                          "train.schedule.kind=step",
                          "train.schedule.milestones=[1, 2.5]",
                          "data.shuffle=false",
                          "data.mean=[0, 0.5, 1]",
                          "run.seed=9223372036854775807" };
    CHECK(config_parse(&c, "t.yaml", GOOD, strlen(GOOD), overrides, 9) == STATUS_OK, "%s", status_message());
    CHECK(c.train.steps == 5 && c.train.epochs == 0, "steps replace epochs");
    CHECK(c.model.layers_count == 2 && strcmp(c.model.layers[1], "layer1.0") == 0, "list of texts");
    CHECK(!c.data.val && strcmp(c.data.train, "a: b #c") == 0, "text is literal: %s", c.data.train);
    CHECK(c.train.schedule.milestones_count == 2 && c.train.schedule.milestones[1] == 2.5, "list of numbers");
    CHECK(c.data.shuffle == SHUFFLE_NONE && c.data.mean[1] == 0.5 && c.run.seed == INT64_MAX, "values");
    config_finish(&c);

    char *twice[] = { "train.lr=0.1", "train.lr=0.2" };
    CHECK(config_parse(&c, "t.yaml", GOOD, strlen(GOOD), twice, 2) == STATUS_USAGE, "twice");
    CHECK(strcmp(status_message(), "override 'train.lr=0.2': already given by 'train.lr=0.1'") == 0, "%s",
          status_message());
    char *both[] = { "train.epochs=1", "train.steps=2" };
    CHECK(config_parse(&c, "t.yaml", GOOD, strlen(GOOD), both, 2) == STATUS_USAGE, "both lengths");
    CHECK(parse(&c, GOOD, "model.layers=[]") == STATUS_OK && c.model.layers && !c.model.layers_count,
          "an empty list is not by arch");
    config_finish(&c);
}

/* Printing, parsing and printing again gives the same bytes, and comparison finds no difference. */
static void check_round_trip(const char *text, const char *override, const struct config_facts *facts)
{
    struct config first, second;
    char *once = NULL, *again = NULL;
    CHECK(parse(&first, text, override) == STATUS_OK, "%s", status_message());
    if (facts)
        CHECK(config_resolve(&first, facts) == STATUS_OK, "%s", status_message());
    CHECK(config_print(&first, &once) == STATUS_OK, "print");
    CHECK(config_parse(&second, "other.yaml", once, strlen(once), NULL, 0) == STATUS_OK, "%s\n%s", status_message(),
          once);
    CHECK(config_print(&second, &again) == STATUS_OK, "print");
    CHECK(strcmp(once, again) == 0, "\n%s\n%s", once, again);
    CHECK(config_compare(&first, &second, NULL, NULL) == STATUS_OK, "%s", status_message());
    config_finish(&first);
    config_finish(&second);
    free(once);
    free(again);
}

static void check_round_trips(void)
{
    struct config_facts one = { 10, 32, 1, 2, false }, many = { 1000, 0, 4, 16, true };
    check_round_trip(GOOD, NULL, NULL);
    check_round_trip(GOOD, NULL, &one);
    check_round_trip(GOOD, "train.micro_batch=8", &many);
    check_round_trip(GOOD, "csc.lambda=0.1234567890123456789", &one);
    check_round_trip(GOOD, "train.weight_decay=3e-310", &one);
    check_round_trip(GOOD, "model.layers=[]", &one);
    check_round_trip(GOOD, "model.layers=[auto, \"x, y\", \"]\", \"null\", \"#\", ' b\\ \"']", &one);
    check_round_trip(GOOD, "data.train=\"q\" \\ 'x': # \xc3\xa9 ", &one);
    check_round_trip(GOOD, "data.cache=./none", &one);
    check_round_trip(GOOD "run: {name: 'auto', dir: \"none\"}\n", NULL, &one);
    check_round_trip(GOOD "run: {dir: \"auto\"}\n", NULL, &one);
    check_round_trip(GOOD, "run.name=-", &one);
    check_round_trip(GOOD, "data.augment=none", &one);
    check_round_trip(GOOD, "data.shuffle=window", &one);
    check_round_trip(GOOD, "train.steps=7", &one);
}

static void check_resolve(void)
{
    struct config c;
    struct config_facts cifar = { 10, 32, 1, 2, false }, imagenet = { 1000, 0, 4, 16, true };
    CHECK(parse(&c, GOOD, "train.schedule.kind=onecycle") == STATUS_OK, "%s", status_message());
    CHECK(config_resolve(&c, &cifar) == STATUS_OK, "%s", status_message());
    CHECK(c.model.classes == 10 && c.model.stem == CONFIG_STEM_CIFAR && c.data.image_size == 32 &&
              c.data.augment == AUGMENT_CIFAR && c.data.mean[0] == 0.4914 && c.data.std[2] == 0.2010,
          "cifar");
    CHECK(c.train.micro_batch == 128 && c.eval.batch == 128 && c.device.kind == CONFIG_DEVICE_CPU &&
              c.device.precision == CONFIG_FP32 && c.device.threads == 2 && c.data.workers == 1,
          "cpu");
    CHECK(fabs(c.train.schedule.warmup_epochs - 3) < 1e-12, "onecycle warms up for 30%%");
    config_finish(&c);

    CHECK(parse(&c, GOOD, "train.micro_batch=8") == STATUS_OK, "%s", status_message());
    CHECK(config_resolve(&c, &imagenet) == STATUS_OK, "%s", status_message());
    CHECK(c.model.classes == 1000 && c.model.stem == CONFIG_STEM_IMAGENET && c.data.image_size == 224 &&
              c.data.augment == AUGMENT_IMAGENET && c.data.mean[0] == 0.485 && c.data.std[2] == 0.225,
          "imagenet");
    CHECK(c.train.micro_batch == 8 && c.eval.batch == 8 && c.device.kind == CONFIG_DEVICE_CUDA &&
              c.device.precision == CONFIG_BF16 && c.train.schedule.warmup_epochs == 0,
          "cuda");
    config_finish(&c);

    CHECK(parse(&c, GOOD, NULL) == STATUS_OK && config_resolve(&c, &imagenet) == STATUS_USAGE, "micro_batch");
    CHECK(strcmp(status_message(), "t.yaml: train.micro_batch is required on 4 ranks (batch norm sees one "
                                   "micro-batch at a time)") == 0,
          "%s", status_message());
    config_finish(&c);
    CHECK(parse(&c, GOOD, "train.micro_batch=64") == STATUS_OK && config_resolve(&c, &imagenet) == STATUS_USAGE,
          "shares");
    CHECK(strcmp(status_message(), "override 'train.micro_batch=64': 2 micro-batches (train.batch 128 / "
                                   "train.micro_batch 64) cannot be shared by 4 ranks") == 0,
          "%s", status_message());
    config_finish(&c);
    CHECK(parse(&c, GOOD, "model.classes=9") == STATUS_OK && config_resolve(&c, &cifar) == STATUS_USAGE, "classes");
    CHECK(strcmp(status_message(), "override 'model.classes=9': model.classes is 9, but the dataset has 10 classes") ==
              0,
          "%s", status_message());
    config_finish(&c);
    struct config_facts none = { 0 };
    CHECK(parse(&c, GOOD, NULL) == STATUS_OK && config_resolve(&c, &none) == STATUS_OK, "nothing known");
    CHECK(c.model.classes == 0 && c.data.image_size == 0 && c.train.micro_batch == 0 && c.data.workers == 0,
          "stays auto");
    config_finish(&c);
}

static void check_compare(const char *before, const char *after, const char *expected)
{
    struct config a, b;
    struct config_facts facts = { 10, 32, 1, 2, false };
    CHECK(parse(&a, GOOD, before) == STATUS_OK && config_resolve(&a, &facts) == STATUS_OK, "%s", status_message());
    CHECK(parse(&b, GOOD, after) == STATUS_OK && config_resolve(&b, &facts) == STATUS_OK, "%s", status_message());
    status_clear();
    enum status status = config_compare(&a, &b, NULL, NULL);
    CHECK(status == (expected ? STATUS_USAGE : STATUS_OK), "%s -> %s: %d %s", before, after, status, status_message());
    CHECK(strcmp(status_message(), expected ? expected : "") == 0, "%s", status_message());
    config_finish(&a);
    config_finish(&b);
}

static void check_compares(void)
{
    check_compare(NULL, NULL, NULL);
    check_compare(NULL, "train.lr=0.2",
                  "override 'train.lr=0.2': cannot resume with another train.lr: the checkpoint has "
                  "0.1, this configuration 0.2; allow it with --change=train.lr");
    check_compare("train.epochs=9", NULL,
                  "t.yaml:6:11: cannot resume with another train.epochs: the checkpoint has "
                  "9, this configuration 10; allow it with --change=train.epochs");
    check_compare(NULL, "train.lr=1e-1", NULL); /* another spelling */
    check_compare(NULL, "data.workers=7", NULL);
    check_compare(NULL, "device.threads=7", NULL);
    check_compare(NULL, "data.val=other", NULL);
    check_compare(NULL, "data.train=moved", NULL);
    check_compare(NULL, "run.log_every=7", NULL);
    check_compare(NULL, "checkpoint.keep=7", NULL);
    check_compare(NULL, "eval.every_epochs=7", NULL);
    check_compare(NULL, "comm.bucket_mb=7", NULL);
    check_compare(NULL, "log.tensorboard=true", NULL);
    check_compare(NULL, "run.seed=2",
                  "override 'run.seed=2': cannot resume with another run.seed: the checkpoint has 1, "
                  "this configuration 2");
    struct config a, b;
    struct config_facts facts = { 10, 32, 1, 2, false };
    char *old[] = { "run.deterministic=true" }, *now[] = { "run.deterministic=true", "comm.bucket_mb=3" };
    CHECK(config_parse(&a, "t.yaml", GOOD, strlen(GOOD), old, 1) == STATUS_OK && !config_resolve(&a, &facts), "old");
    CHECK(config_parse(&b, "t.yaml", GOOD, strlen(GOOD), now, 2) == STATUS_OK && !config_resolve(&b, &facts), "new");
    CHECK(config_compare(&a, &b, NULL, NULL) == STATUS_USAGE, "bits are promised");
    CHECK(strcmp(status_message(),
                 "override 'comm.bucket_mb=3': cannot resume with another comm.bucket_mb: the checkpoint "
                 "has auto, this configuration 3 (run.deterministic fixes it)") == 0,
          "%s", status_message());
    config_finish(&a);
    config_finish(&b);
}

/* At a resume only the keys of the recipe that are listed may change. */
static void check_change(const char *change, const char *lr, const char *second, const char *expected,
                         const char *error)
{
    struct config a, b;
    struct config_facts facts = { 10, 32, 1, 2, false };
    char *overrides[] = { (char *)lr, (char *)second }, *changed = NULL;
    CHECK(parse(&a, GOOD, NULL) == STATUS_OK && config_resolve(&a, &facts) == STATUS_OK, "%s", status_message());
    CHECK(config_parse(&b, "t.yaml", GOOD, strlen(GOOD), overrides, 2) == STATUS_OK, "%s", status_message());
    CHECK(config_resolve(&b, &facts) == STATUS_OK, "%s", status_message());
    status_clear();
    enum status status = config_compare(&a, &b, change, &changed);
    CHECK(status == (error ? STATUS_USAGE : STATUS_OK), "%s: %s", change, status_message());
    CHECK(strstr(status_message(), error ? error : ""), "%s: %s", change, status_message());
    CHECK(!changed == !expected && (!changed || strcmp(changed, expected) == 0), "%s: %s", change, changed);
    free(changed);
    config_finish(&a);
    config_finish(&b);
}

static void check_changes(void)
{
    static const struct {
        const char *list, *error;
    } lists[] = {
        { "train.lr", NULL },
        { "train.lr,train.schedule,data.augment", NULL },
        { "train.schedule.final_lr", NULL },
        { "train.batch", "--change: train.batch cannot change at a resume; what can: data.augment, train.epochs, " },
        { "train", "--change: train.batch cannot change at a resume" },
        { "data", "data.shuffle cannot change" },
        { "train.momentum", "train.momentum cannot change" },
        { "csc.lambda", "csc.lambda cannot change" },
        { "run.log_every", "--change: run.log_every may differ at any resume: leave it out" },
        { "device.threads", "unless run.deterministic fixes it" },
        { "", "unknown key ''" },
        { "train.lr,", "unknown key ''" },
        { "lr", "unknown key 'lr' (did you mean 'train.lr'?)" },
        { "train.schedule.kinds", "unknown key 'train.schedule.kinds' (did you mean 'kind'?)" },
        { "train.lr train.clip", "unknown key 'train.lr train.clip'" },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        status_clear();
        enum status status = config_check_change(lists[i].list);
        const char *error = lists[i].error;
        CHECK(status == (error ? STATUS_USAGE : STATUS_OK), "'%s': %s", lists[i].list, status_message());
        CHECK(strstr(status_message(), error ? error : ""), "'%s': %s", lists[i].list, status_message());
    }
    check_change("train.lr", "train.lr=0.2", "run.log_every=3", "train.lr 0.1 -> 0.2", NULL);
    check_change("train.lr,train.clip", "train.lr=0.2", "train.clip=1", "train.lr 0.1 -> 0.2, train.clip 0 -> 1", NULL);
    check_change("train.lr", "train.lr=0.2", "train.clip=1", NULL,
                 "another train.clip: the checkpoint has 0, this "
                 "configuration 1; allow it with --change=train.clip");
    check_change(NULL, "train.lr=0.2", "train.clip=1", NULL, "allow it with --change=train.lr,train.clip");
    check_change("train.lr", "train.lr=0.2", "train.batch=64", NULL, "cannot resume with another train.batch: ");
    check_change("train.steps", "train.lr=0.1", "train.steps=7", "train.epochs 10 -> none, train.steps none -> 7",
                 NULL);
    check_change("train.schedule", "train.schedule.kind=constant", "train.schedule.warmup_epochs=2",
                 "train.schedule.kind cosine -> constant, train.schedule.warmup_epochs 0 -> 2", NULL);
    check_change("train.lr", "train.lr=0.1", "run.log_every=3", NULL, NULL); /* the last start has changed it */
}

/* Every key: its default is valid, its section is known, its printed form is accepted as an override. */
static void check_table(void)
{
    for (int row = 0; row < CONFIG_KEYS; row++) {
        struct config c;
        char override[256];
        CHECK(config_keys[row].name && config_key_find(config_keys[row].name) == row, "row %d", row);
        CHECK(parse(&c, GOOD, NULL) == STATUS_OK, "%s", status_message());
        char *text = config_text(&c, config_keys[row].name);
        snprintf(override, sizeof override, "%s=%s", config_keys[row].name, text);
        config_finish(&c);
        CHECK(parse(&c, GOOD, override) == STATUS_OK, "%s: %s", override, status_message());
        config_finish(&c);
        free(text);
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

/* The config.yaml of a run means the folder in which it lies. A run.name on the command line names the folder too. */
static void check_place(const char *path, char *override, const char *dir)
{
    struct config c;
    CHECK(config_load(&c, path, &override, override != NULL) == STATUS_OK, "%s", status_message());
    CHECK(strcmp(c.run.dir, dir) == 0, "%s %s: %s, not %s", path, override, c.run.dir, dir);
    config_finish(&c);
}

static void check_places(void)
{
    struct config c;
    char folder[] = "/tmp/csc-config-XXXXXX", config[128], metrics[128], expected[128], *text = NULL;
    if (!mkdtemp(folder))
        abort();
    snprintf(config, sizeof config, "%s/config.yaml", folder);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", folder);
    CHECK(parse(&c, GOOD, "run.dir=old/place") == STATUS_OK && config_print(&c, &text) == STATUS_OK, "%s",
          status_message());
    config_finish(&c);
    write_file(config, text);
    check_place(config, NULL, "old/place"); /* a folder that is no run */
    check_place(config, "run.name=B", "old/B");
    write_file(metrics, "");
    check_place(config, NULL, folder);
    check_place(config, "run.dir=here", "here");
    check_place(config, "run.name=B", "/tmp/B");
    snprintf(expected, sizeof expected, "%s/other.yaml", folder);
    write_file(expected, text);
    check_place(expected, NULL, "old/place");
    unlink(expected);
    write_file(config, GOOD "run: {dir: old/place/}\n"); /* not csc-train's own */
    check_place(config, NULL, "old/place/");
    check_place(config, "run.name=B", "old/B");
    write_file(config, GOOD "run: {dir: ..}\n");
    check_place(config, "run.name=B", "../../B");
    write_file(config, GOOD "run: {dir: one}\n");
    check_place(config, "run.name=B", "B");
    write_file(config, GOOD);
    check_place(config, "run.name=B", "runs/B");
    write_file(config, GOOD "run:\n  dir: /a/$USER/x\n");
    CHECK(config_load(&c, config, NULL, 0) == STATUS_USAGE &&
              strstr(status_message(), "config.yaml:9:8: run.dir: '/a/$USER/x'"),
          "%s", status_message());
    char *home = "data.cache=~/x";
    CHECK(config_load(&c, config, &home, 1) == STATUS_USAGE, "~ in an override");
    unlink(config);
    unlink(metrics);
    rmdir(folder);
    free(text);
}

static void check_files(void)
{
    struct config c;
    char folder[] = "/tmp/csc-config-XXXXXX", path[128], found[PATH_MAX];
    if (!mkdtemp(folder))
        abort();
    snprintf(path, sizeof path, "%s/my.run.yaml", folder);
    write_file(path, GOOD);
    CHECK(config_load(&c, path, NULL, 0) == STATUS_OK, "%s", status_message());
    CHECK(strcmp(c.run.name, "my.run") == 0, "%s", c.run.name);
    config_finish(&c);
    CHECK(config_load(&c, "my.run.yaml", NULL, 0) == STATUS_USAGE, "not found");
    CHECK(strstr(status_message(), "my.run.yaml: no such configuration here, in $CSC_CONFIG_DIR (not set) or in "),
          "%s", status_message());
    setenv("CSC_CONFIG_DIR", folder, 1);
    CHECK(config_find("my.run.yaml", found) == STATUS_OK && strcmp(found, path) == 0, "%s", found);
    CHECK(config_find("/my.run.yaml", found) == STATUS_USAGE, "absolute names are taken as given");
    unsetenv("CSC_CONFIG_DIR");
    CHECK(config_load(&c, folder, NULL, 0) == STATUS_USAGE, "a folder");
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 300 * 1024; i++)
        fputc('#', file);
    fclose(file);
    CHECK(config_load(&c, path, NULL, 0) == STATUS_USAGE && strstr(status_message(), "262144"), "%s", status_message());
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    unsetenv("CSC_CONFIG_DIR");
    for (size_t i = 0; i < sizeof file_errors / sizeof file_errors[0]; i++)
        check_error(file_errors[i].text, NULL, file_errors[i].expected);
    for (size_t i = 0; i < sizeof override_errors / sizeof override_errors[0]; i++)
        check_error(GOOD, override_errors[i].override, override_errors[i].expected);
    check_defaults();
    check_overrides();
    check_round_trips();
    check_resolve();
    check_compares();
    check_changes();
    check_table();
    check_places();
    check_files();
    return check_done("config");
}
