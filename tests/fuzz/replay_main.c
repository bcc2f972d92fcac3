/* SPDX-License-Identifier: MIT */
/*
 * Stands in for libFuzzer where that is not linked: runs the target once on each file named, and on
 * each file of each folder named.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long files;

static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *buf = malloc(FILE_BYTES_MAX);
	uint8_t *exact;
	size_t bytes;

	if (!f || !buf) {
		perror(path);
		return 1;
	}
	bytes = fread(buf, 1, FILE_BYTES_MAX, f);
	fclose(f);
	exact = malloc(bytes ? bytes : 1); /* so that a sanitizer sees the end */
	if (!exact)
		return 1;
	memcpy(exact, buf, bytes);
	fprintf(stderr, "%s\n", path); /* the last line names the culprit */
	(void)LLVMFuzzerTestOneInput(exact, bytes);
	free(exact);
	free(buf);
	files++;
	return 0;
}

static int replay_folder(const char *path)
{
	struct dirent **list;
	int i, n, failed = 0;

	n = scandir(path, &list, NULL, alphasort);
	if (n < 0) {
		perror(path);
		return 1;
	}
	for (i = 0; i < n; i++) {
		char *file = NULL;

		if (list[i]->d_name[0] != '.' &&
		    asprintf(&file, "%s/%s", path, list[i]->d_name) > 0)
			failed |= replay_file(file);
		free(file);
		free(list[i]);
	}
	free(list);
	return failed;
}

int main(int argc, char **argv)
{
	struct stat st;
	int i, failed = 0;

	for (i = 1; i < argc; i++) {
		if (stat(argv[i], &st)) {
			perror(argv[i]);
			return 1;
		}
		failed |= S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
	}
	if (files == 0) {
		fprintf(stderr, "%s: no file to replay\n", argv[0]);
		return 1;
	}
	printf("%lu inputs replayed\n", files);
	return failed;
}
