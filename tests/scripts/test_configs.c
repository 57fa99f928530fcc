/* test_configs.c - checks the configurations that come with the program: each one loads, fits the numbers of ranks that
 * it is for, and prints so that it reads back. A baseline differs from its sparse network only in name and
 * architecture. Usage: test-configs FILE... */
#include <string.h>

#include "tests/check.h"
#include "trainer/config/config.h"
#include "trainer/config/config_internal.h"

static bool load(struct config *config, const char *path, int ranks, int classes, int image_size)
{
    struct config_facts facts = { .classes = classes, .image_size = image_size, .ranks = ranks, .cores = 2 };
    *config = (struct config){ 0 };
    return config_load(config, path, NULL, 0) == STATUS_OK && config_resolve(config, &facts) == STATUS_OK;
}

static const char *leaf(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool imagenet(const char *path)
{
    return strstr(leaf(path), "imagenet") != NULL;
}

static void check_ranks(const char *path)
{
    struct config config;
    int most = imagenet(path) ? 32 : 2;
    for (int ranks = 1; ranks <= most; ranks *= 2) {
        CHECK(load(&config, path, ranks, 10, imagenet(path) ? 0 : 32), "%s on %d ranks: %s", path, ranks,
              status_message());
        config_finish(&config);
    }
    CHECK(!load(&config, path, 3, 10, 32), "%s ran on 3 ranks", path);
    config_finish(&config);
}

static void check_printing(const char *path)
{
    struct config config, again = { 0 };
    char *text = NULL;
    CHECK(load(&config, path, 1, 10, 32), "%s: %s", path, status_message());
    CHECK(config_print(&config, &text) == STATUS_OK, "%s", status_message());
    CHECK(text && config_parse(&again, "printed.yaml", text, strlen(text), NULL, 0) == STATUS_OK, "%s: %s", path,
          status_message());
    CHECK(config_compare(&config, &again, NULL, NULL) == STATUS_OK, "%s: %s", path, status_message());
    free(text);
    config_finish(&config);
    config_finish(&again);
}

/* resnet18-X.yaml against X.yaml. */
static void check_baseline(const char *path)
{
    char sparse[512];
    struct config a, b;
    snprintf(sparse, sizeof sparse, "%.*s%s", (int)(leaf(path) - path), path, leaf(path) + strlen("resnet18-"));
    CHECK(load(&a, path, 1, 10, 32) && load(&b, sparse, 1, 10, 32), "%s: %s", path, status_message());
    for (int row = 0; row < CONFIG_KEYS; row++) {
        const char *key = config_keys[row].name;
        char *x = config_text(&a, key), *y = config_text(&b, key);
        bool free_to_differ = strncmp(key, "run.", 4) == 0 || strcmp(key, "model.arch") == 0 ||
                              strcmp(key, "model.layers") == 0;
        CHECK(x && y && (free_to_differ || strcmp(x, y) == 0), "%s: %s is %s, in %s %s", path, key, x, sparse, y);
        free(x);
        free(y);
    }
    config_finish(&a);
    config_finish(&b);
}

int main(int argc, char **argv)
{
    int baselines = 0;
    for (int i = 1; i < argc; i++) {
        check_ranks(argv[i]);
        check_printing(argv[i]);
        if (strncmp(leaf(argv[i]), "resnet18-", 9) == 0) {
            check_baseline(argv[i]);
            baselines++;
        }
    }
    CHECK(baselines == 3, "%d baselines", baselines);
    return check_done("configs");
}
