/*
 * mongod 4.4 and 5.0 are linked with libcurl under the symbol version CURL_OPENSSL_3, which current systems no longer
 * ship. mongod uses libcurl only for free monitoring and for OCSP, which tests do not need, so each function answers
 * success or "failed to initialise" (2) without doing anything.
 */
#include <stddef.h>

#define HANDLE ((void *)1)

void *curl_easy_init(void) { return HANDLE; }
void curl_easy_cleanup(void *handle) { (void)handle; }
void *curl_easy_duphandle(void *handle) { return handle; }
int curl_easy_getinfo(void *handle, int info, ...) { (void)handle; (void)info; return 2; }
int curl_easy_perform(void *handle) { (void)handle; return 2; }
int curl_easy_setopt(void *handle, int option, ...) { (void)handle; (void)option; return 0; }
const char *curl_easy_strerror(int code) { (void)code; return "stub"; }
int curl_global_init(long flags) { (void)flags; return 0; }
void curl_global_cleanup(void) {}
void *curl_slist_append(void *list, const char *text) { (void)list; (void)text; return HANDLE; }
void curl_slist_free_all(void *list) { (void)list; }
void *curl_share_init(void) { return HANDLE; }
int curl_share_cleanup(void *handle) { (void)handle; return 0; }
int curl_share_setopt(void *handle, int option, ...) { (void)handle; (void)option; return 0; }

/* curl_version_info_data. At startup mongod asks for a version, for SSL (bit 2) and for asynchronous DNS (bit 7). */
static const char *const protocols[] = {"http", "https", NULL};
static struct {
  int age;
  const char *version;
  unsigned version_num;
  const char *host;
  int features;
  const char *ssl_version;
  long ssl_version_num;
  const char *libz_version;
  const char *const *protocols;
} information = {0, "7.58.0", 0x073a00, "stub", 1 << 2 | 1 << 7, "OpenSSL/1.1.1", 0, "1", protocols};

void *curl_version_info(int age) { (void)age; return &information; }
