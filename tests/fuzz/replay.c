/* replay.c - runs a fuzz target over its stored inputs without a fuzzer.
 *
 * Arguments are folders (a missing one is an empty one).  Every regular file in them is given to
 * LLVMFuzzerTestOneInput; a crash or a sanitizer report is the failure.  With no input at all the
 * empty input is tried, so a target never passes without having run. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    struct stat st;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        fclose(f);
        return 0;
    }
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1);
    int ok = data && fread(data, 1, size, f) == size;
    fclose(f);
    if (ok)
        (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return ok ? 1 : -1;
}

static int replay_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char file[4096];
        int n = snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        int r = n > 0 && (size_t)n < sizeof(file) ? replay_file(file) : -1;
        if (r < 0) {
            fprintf(stderr, "replay: can't read %s/%s\n", path, entry->d_name);
            closedir(dir);
            exit(1);
        }
        count += r;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++)
        count += replay_folder(argv[i]);
    if (count == 0)
        (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("%d inputs replayed\n", count);
    return 0;
}
