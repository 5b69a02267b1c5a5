# pgreserve: build, run, test and install it.  `make help` lists the targets.
#
# Everything that is made lands in $(BUILD).  A second build lives beside the first under another name:
#     make BUILD=build-clang CC=clang
#     make BUILD=build-asan SANITIZE=address,undefined
# Objects depend on this file, so that a change of flags rebuilds them.

VERSION     := $(file < VERSION)
BUILD       ?= build
PREFIX      ?= /usr/local
SYSCONFDIR  ?= /etc
DESTDIR     ?=
SANITIZE ?=
COVERAGE ?=
ifeq ($(origin CC),default)
CC := gcc
endif

# pkg-config is asked once, and only when something is compiled: a fresh machine does not have it yet.
PACKAGES     := libpq libevent libevent_openssl inih openssl jansson
PKG_CFLAGS    = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES)))$(PKG_CFLAGS)
PKG_LIBS      = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PACKAGES)))$(PKG_LIBS)

# The same source gives the same bytes wherever it lies.
STANDARD     := -std=gnu17 -D_GNU_SOURCE -Isrc -DPGRESERVE_VERSION=\"$(VERSION)\" \
                -ffile-prefix-map=$(CURDIR)=.
WARNINGS     := -Wall -Wextra -Wshadow -Wconversion -Werror
LDFLAGS_ALL  := -pthread -Wl,--as-needed $(LDFLAGS)
ifneq ($(SANITIZE),)
# Fortified calls would hide from the sanitizers what they look for.
OPTIMIZE     := -O1 -g -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS_ALL  += -fsanitize=$(SANITIZE)
else ifneq ($(COVERAGE),)
OPTIMIZE     := -O0 -g --coverage
LDFLAGS_ALL  += --coverage
else
OPTIMIZE     := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fPIE \
                -fstack-protector-strong -fstack-clash-protection
LDFLAGS_ALL  += -pie -Wl,-z,relro,-z,now,-z,noexecstack
endif
CFLAGS_ALL    = $(STANDARD) $(WARNINGS) $(OPTIMIZE) -pthread $(PKG_CFLAGS) $(CFLAGS)

SOURCES      := $(wildcard src/*/*.c)
HEADERS      := $(wildcard src/*/*.h)
TESTS        := $(wildcard tests/unit/test_*.c tests/property/property_*.c)
TEST_HEADERS := $(wildcard tests/unit/*.h tests/property/*.h)
FUZZED       := $(wildcard tests/fuzz/*.c tests/fuzz/*.h)
LOADS        := $(wildcard tests/load/*.c tests/load/*.h)
FORMATTED    := src/main.c $(SOURCES) $(HEADERS) $(TESTS) $(TEST_HEADERS) $(FUZZED) $(LOADS)

PROGRAM      := $(BUILD)/pgreserve
LIBRARY      := $(BUILD)/libpgreserve.a
EMBEDDED     := $(BUILD)/conf_pgreserve_ini $(BUILD)/admin_page_html
LIBRARY_OBJS := $(SOURCES:%.c=$(BUILD)/%.o) $(EMBEDDED:=.o)
UNIT_TESTS     := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
PROPERTY_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/property/property_*.c))
LOAD           := $(BUILD)/tests/load/answers
FUZZ_TARGETS   := $(patsubst %.c,$(BUILD)/%,$(filter-out %/fuzz_main.c,$(wildcard tests/fuzz/fuzz_*.c)))

PYTHON       := /usr/bin/python3
JOBS         := $(shell nproc 2>/dev/null || echo 2)
# Where node's clients look for `pg`: what `make dependencies` fetched, then Debian's own place.
export NODE_PATH := $(CURDIR)/build/node/node_modules:/usr/share/nodejs

all: $(PROGRAM) ## build build/pgreserve

# -- building ----------------------------------------------------------------------------------------

$(PROGRAM): $(BUILD)/src/main.o $(LIBRARY)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

# Made anew each time, so that an object whose source is gone does not stay in it.
$(LIBRARY): $(LIBRARY_OBJS)
	rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c Makefile VERSION
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Files that are built in, as C strings, each byte an octal escape: `const char conf_pgreserve_ini[]`.
$(BUILD)/conf_pgreserve_ini.c: conf/pgreserve.ini Makefile
$(BUILD)/admin_page_html.c: src/admin/page.html Makefile
$(EMBEDDED:=.c):
	@mkdir -p $(@D)
	od -An -v -t o1 $< | awk -v name=$(basename $(@F)) ' \
	    BEGIN { print "extern const char " name "[];\nconst char " name "[] =" } \
	    { gsub(/ +/, "\\"); print "    \"" $$0 "\"" } \
	    END { print "    \"\";" }' > $@

$(EMBEDDED:=.o): %.o: %.c
	$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(BUILD)/tests/%: tests/%.c $(LIBRARY) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -MF $@.d -MT $@ $(LDFLAGS_ALL) -o $@ $< $(LIBRARY) $(PKG_LIBS) -lcmocka

# Hundreds of clients that look whether each gets its own answers.
$(LOAD): $(BUILD)/tests/load/answers.o $(BUILD)/tests/load/questions.o $(LIBRARY)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

# The fuzz targets: with libFuzzer's own main in the build that `make fuzz` makes, else with one that plays files.
# Those that play a whole proxy have a clock, random bytes and cancels of their own: libevent too, so it is linked in.
FUZZ_WORLD     := $(BUILD)/tests/fuzz/world.o $(BUILD)/tests/fuzz/fake_server.o
FUZZ_WRAPPED   := -Wl,--wrap=clock_gettime,--wrap=getrandom,--wrap=workers_submit \
                  -Wl,--wrap=timerfd_create,--wrap=PQgetCancel,--wrap=PQfreeCancel,--wrap=PQcancel
IS_FUZZING     := $(findstring fuzzer,$(SANITIZE))
FUZZ_MAIN      := $(if $(IS_FUZZING),,$(BUILD)/tests/fuzz/fuzz_main.o)
$(FUZZ_TARGETS): %: %.o $(FUZZ_MAIN) $(FUZZ_WORLD) $(LIBRARY)
	$(CC) $(LDFLAGS_ALL) $(if $(IS_FUZZING),-fsanitize=fuzzer) $(FUZZ_WRAPPED) -o $@ $^ \
	    $(patsubst -levent%,-l:libevent%.a,$(PKG_LIBS))

tests: $(UNIT_TESTS) $(PROPERTY_TESTS) $(FUZZ_TARGETS) $(LOAD) ## build unit tests, property tests and fuzz targets, without running them

-include $(LIBRARY_OBJS:.o=.d) $(BUILD)/src/main.d $(UNIT_TESTS:=.d) $(PROPERTY_TESTS:=.d) \
    $(FUZZ_TARGETS:=.d) $(FUZZ_MAIN:.o=.d) $(FUZZ_WORLD:.o=.d) \
    $(BUILD)/tests/load/answers.d $(BUILD)/tests/load/questions.d

# -- running -----------------------------------------------------------------------------------------

# The throwaway PostgreSQL is only needed when there is no SUPABASE_URL to stand in front of.
run: ## install what is missing, build, and run in front of $SUPABASE_URL or a throwaway PostgreSQL
	@scripts/install_dependencies.sh build $$([ -n "$$SUPABASE_URL" ] || echo run)
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@exec scripts/run_demo.sh $(PROGRAM)

dependencies: ## install what building, running and testing need (asks for root or sudo)
	@scripts/install_dependencies.sh build run test

# -- testing -----------------------------------------------------------------------------------------

test: ## install what is missing and run everything; the last line says how many passed and failed
	@scripts/install_dependencies.sh build run test
	@$(PYTHON) scripts/test.py

unit: $(UNIT_TESTS) ## run the unit tests
	@$(PYTHON) scripts/test.py --programs $(UNIT_TESTS)

property: $(PROPERTY_TESTS) ## run the property tests
	@$(PYTHON) scripts/test.py --programs $(PROPERTY_TESTS)

integration: all $(LOAD) ## run the integration tests against $(BUILD)/pgreserve
	@$(PYTHON) scripts/test.py --integration $(PROGRAM)

browser: all ## show the page of $(BUILD)/pgreserve in a browser and test it
	@$(PYTHON) scripts/test.py --browser $(PROGRAM)

# Random sessions by the hundred thousand (eight scripts a scenario); PGRESERVE_SEED repeats a run.
soak: all ## play random sessions for hours: SCENARIOS=20000
	@PGRESERVE_BINARY=$(CURDIR)/$(PROGRAM) PGRESERVE_SCENARIOS=$(or $(SCENARIOS),20000) \
	    $(PYTHON) -m pytest tests/integration/test_differential.py -q -s -n 2 -p no:cacheprovider

# PGRESERVE_SEED repeats what is asked, though not when; the figures are printed.
proof: all $(LOAD) ## hundreds of clients in chaos, each answer looked at: ANSWERS=3000000
	@PGRESERVE_BINARY=$(CURDIR)/$(PROGRAM) PGRESERVE_PROOF_ANSWERS=$(or $(ANSWERS),3000000) \
	    $(PYTHON) -m pytest tests/integration/test_own_answers.py -q -s -p no:cacheprovider

# New inputs that reach new code land in $(BUILD)-fuzz/found/NAME; what is worth keeping goes to tests/fuzz/corpus/NAME.
fuzz: ## let libFuzzer look for inputs that break something: FUZZ_SECONDS=60 for each target, FUZZ_ONLY=name
	@scripts/install_dependencies.sh build fuzz
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)-fuzz CC=clang \
	    SANITIZE=fuzzer-no-link,address,undefined fuzz-targets
	@$(PYTHON) scripts/fuzz.py --build $(BUILD)-fuzz --seconds $(or $(FUZZ_SECONDS),60) $(FUZZ_ONLY)

fuzz-targets: $(FUZZ_TARGETS)

fuzz-regression: $(FUZZ_TARGETS) ## play the inputs of tests/fuzz/corpus
	@$(PYTHON) scripts/test.py --fuzz-regression $(FUZZ_TARGETS)

asan: ## run unit, property and integration tests under AddressSanitizer and UBSan
	@$(PYTHON) scripts/test.py --sanitized

valgrind: all tests ## run tests under valgrind's memcheck, and count its errors (VALGRIND=whole, in hours; VALGRIND="test_auth ...")
	@scripts/install_dependencies.sh build run test
	@$(PYTHON) scripts/test.py --valgrind $(PROGRAM) --files "$(VALGRIND)"

coverage: ## which lines the tests reach, in build-coverage/
	@scripts/install_dependencies.sh build run test coverage
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build-coverage COVERAGE=1 all tests
	-@$(MAKE) --no-print-directory -k BUILD=build-coverage COVERAGE=1 unit property fuzz-regression integration
	gcovr --root . --object-directory build-coverage --filter src/ \
	    --html-details build-coverage/coverage.html --print-summary

bench: ## what standing in between costs, beside pgbouncer, haproxy, pgpool2 (20 minutes; BENCH_OPTIONS=--quick, --help)
	@scripts/install_dependencies.sh build bench
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@$(PYTHON) tests/bench/bench.py --pgreserve $(PROGRAM) --json $(BUILD)/bench.json --svg $(BUILD)/bench.svg \
	    $(BENCH_OPTIONS)

# -- reading -----------------------------------------------------------------------------------------

lint: lint-floors lint-format lint-cppcheck lint-tidy ## every check of the text; `make -k lint` runs all

lint-floors:
	@$(PYTHON) scripts/lint_floors.py

lint-format:
	@clang-format --dry-run -Werror $(wildcard $(FORMATTED))

# cppcheck must see sys/queue.h and uthash.h to parse us; what it thinks of system headers is of no interest.
lint-cppcheck:
	@cppcheck --quiet --error-exitcode=1 --inline-suppr -j $(JOBS) --std=c11 \
	    --enable=warning,performance,portability --suppress='*:/usr/include/*' \
	    -I/usr/include -I/usr/include/$$($(CC) -print-multiarch) -Isrc \
	    -D_GNU_SOURCE -DPGRESERVE_VERSION=\"$(VERSION)\" $(wildcard src/main.c) $(SOURCES)

lint-tidy:
	@printf '%s\n' $(wildcard src/main.c) $(SOURCES) | xargs -P $(JOBS) -n 1 sh -c \
	    'out=$$(clang-tidy --quiet "$$0" -- $(STANDARD) $(PKG_CFLAGS) 2>/dev/null) || \
	        { printf "%s\n" "$$out"; exit 1; }'

format: ## let clang-format lay out every C file
	clang-format -i $(wildcard $(FORMATTED))

# -- installing --------------------------------------------------------------------------------------

# What the daemon reads and the administrator changes lies in SYSCONFDIR and is never written over.
BIN      = $(DESTDIR)$(PREFIX)/bin
SHARE    = $(DESTDIR)$(PREFIX)/share/pgreserve
DOC      = $(DESTDIR)$(PREFIX)/share/doc/pgreserve
MAN      = $(DESTDIR)$(PREFIX)/share/man
UNITS    = $(DESTDIR)$(PREFIX)/lib/systemd/system
SETTINGS = $(DESTDIR)$(SYSCONFDIR)/pgreserve
COPY     = install -D -m 644
# Units name the program where `make install` without PREFIX puts it, and no configuration.
LOCATE   = sed -e 's|/usr/local/bin/pgreserve run$$|$(PREFIX)/bin/pgreserve run -c $(SYSCONFDIR)/pgreserve/pgreserve.ini|' \
               -e 's|/usr/local/|$(PREFIX)/|g' -e 's|/etc/pgreserve/|$(SYSCONFDIR)/pgreserve/|g'

install: all ## into $(DESTDIR): program and manuals in PREFIX, units, configuration in SYSCONFDIR unless it is there
	install -D -m 755 $(PROGRAM) $(BIN)/pgreserve
	$(COPY) man/pgreserve.1 $(MAN)/man1/pgreserve.1
	$(COPY) man/pgreserve.ini.5 $(MAN)/man5/pgreserve.ini.5
	$(COPY) man/pgreserve-console.7 $(MAN)/man7/pgreserve-console.7
	[ -e $(SETTINGS)/pgreserve.ini ] || install -D -m 644 conf/pgreserve.ini $(SETTINGS)/pgreserve.ini
	$(COPY) conf/pgreserve.ini $(SHARE)/pgreserve.ini
	$(COPY) conf/prometheus/alerts.yml $(SHARE)/prometheus/alerts.yml
	$(COPY) conf/grafana/pgreserve.json $(SHARE)/grafana/pgreserve.json
	$(COPY) LICENSE $(DOC)/LICENSE
	$(COPY) README.md $(DOC)/README.md
	$(COPY) CHANGELOG.md $(DOC)/CHANGELOG.md
	$(COPY) systemd/environment $(DOC)/examples/environment
	$(COPY) conf/examples/database.py $(DOC)/examples/database.py
	$(COPY) conf/examples/scraper.py $(DOC)/examples/scraper.py
	$(COPY) systemd/pgreserve.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/pgreserve.conf
	mkdir -p $(UNITS)
	$(foreach unit,$(wildcard systemd/*.service systemd/*.socket), \
	    $(LOCATE) $(unit) > $(UNITS)/$(notdir $(unit)) && chmod 644 $(UNITS)/$(notdir $(unit)) &&) true

# -- packaging ---------------------------------------------------------------------------------------

manual: all ## write the options into man/pgreserve.ini.5
	@scripts/generate_manual.sh $(PROGRAM)

deb: ## build build/deb/pgreserve_*.deb and let lintian read it
	@scripts/install_dependencies.sh build deb
	@scripts/build_deb.sh $(BUILD)/deb

image: ## build the container image with buildah, without a Docker engine: BASE=debian:12-slim
	@scripts/install_dependencies.sh image
	buildah bud --isolation chroot --format docker $(if $(BASE),--build-arg BASE=$(BASE)) -t pgreserve:$(VERSION) .

clean: ## remove what was built
	rm -rf build build-asan build-clang build-coverage build-fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.DELETE_ON_ERROR:
.PHONY: all tests run dependencies test unit property integration browser soak proof fuzz fuzz-targets fuzz-regression asan \
        valgrind coverage bench lint lint-floors lint-format lint-cppcheck lint-tidy format install manual deb image clean help
