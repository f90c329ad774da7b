package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"text/template"
	"time"
)

// program is a proxy of others, which takes part if it is installed. Its configuration is written for each workload:
// the least that serves it, tuned as its documents advise.
type program struct {
	name      string
	binary    string   // "": as name
	version   []string // arguments that print it
	arguments func(config string, s setting) []string
	only      string // the one workload that it takes part in; "" is all
	config    string // a template, of a setting
	extension string // of the configuration's file
	workers   int    // processes that the first one starts
	counters  bool   // it has Go's, on a port of its own, which tell of each request
	health    string // a path there that says whether it is ready; "" asks it for an answer
}

// setting is what a configuration depends on.
type setting struct {
	Dir           string // the program's own
	Upstream      string
	Listen, Admin string
	Connections   int // from clients, and some more
	Files         int // it may open
	IdleConns     int // to the upstream, kept open
	Processes     int // or threads
	Streams       bool
	AsRoot        bool
}

// foreignProcesses is how many workers or threads nginx and haproxy have; a Go program has one for each core.
const foreignProcesses = 2

var programs = []program{
	{
		name: nginxPeer, version: []string{"-v"}, workers: foreignProcesses, config: nginxConfig,
		arguments: func(config string, _ setting) []string {
			return []string{"-p", filepath.Dir(config), "-c", config, "-e", "stderr", "-g", "daemon off;"}
		},
	},
	{
		name: haproxyPeer, version: []string{"-v"}, config: haproxyConfig,
		arguments: func(config string, _ setting) []string { return []string{"-db", "-q", "-f", config} },
	},
	{
		name: caddyPeer, version: []string{"version"}, config: caddyConfig, counters: true,
		arguments: func(config string, _ setting) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", config}
		},
	},
	{
		name: vmauthPeer, version: []string{"-version"}, config: vmauthConfig, health: "/health", only: "W2",
		arguments: func(config string, s setting) []string {
			many := strconv.Itoa(s.IdleConns)
			return []string{
				"-auth.config=" + config, "-httpListenAddr=" + s.Listen, "-httpInternalListenAddr=" + s.Admin, "-loggerLevel=ERROR",
				"-maxConcurrentRequests=" + many, "-maxConcurrentPerUserRequests=" + many, "-maxIdleConnsPerBackend=" + many,
			}
		},
	},
	traefik(traefikPeer),
	traefik(traefikFastPeer, "--experimental.fastProxy=true"),
}

// traefik is Traefik with more arguments.
func traefik(name string, more ...string) program {
	return program{
		name: name, binary: "traefik", version: []string{"version"}, config: traefikConfig, extension: ".yml", only: "W2",
		arguments: func(config string, s setting) []string {
			return append([]string{
				"--entryPoints.web.address=" + s.Listen, "--providers.file.filename=" + config, "--log.level=ERROR",
				"--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
				"--serversTransport.maxIdleConnsPerHost=" + strconv.Itoa(s.IdleConns),
			}, more...)
		},
	}
}

func programNames() []string {
	var list []string
	for _, p := range programs {
		list = append(list, p.name)
	}
	return list
}

// find returns where the program is. Debian keeps servers where a user's PATH does not look.
func (p program) find() (string, error) {
	name := cmp.Or(p.binary, p.name)
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin"} {
		if errors.Is(err, exec.ErrNotFound) {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = exec.ErrNotFound
		}
	}
	return path, err
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// versionOf returns "" when the program does not say, and go install has not written it into it.
func (p program) versionOf(ctx context.Context, path string) string {
	output, _ := command(ctx, path, p.version...).CombinedOutput()
	if version := versionPattern.FindString(string(output)); version != "" {
		return version
	}
	if info, err := buildinfo.ReadFile(path); err == nil {
		return versionPattern.FindString(info.Main.Version)
	}
	return ""
}

// starter starts the program that is at path.
func (p program) starter(path string) starter {
	return func(ctx context.Context, s *site, w workload) (*peer, error) {
		ports, err := freeAddresses(ctx, 2)
		if err != nil {
			return nil, err
		}
		dir, err := os.MkdirTemp(s.dir, p.name+"-")
		if err != nil {
			return nil, err
		}
		config := filepath.Join(dir, "config"+p.extension)
		set := setting{
			Dir: dir, Upstream: s.upstream, Listen: ports[0], Admin: ports[1],
			Connections: w.connections + 100, Files: w.openFiles(), IdleConns: w.connections + 100,
			Processes: foreignProcesses, Streams: w.events > 0, AsRoot: os.Geteuid() == 0,
		}
		err = p.writeConfig(config, set)
		if err != nil {
			return nil, err
		}
		environ := append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		process, err := start(ctx, path, environ, p.arguments(config, set)...)
		if err != nil {
			return nil, err
		}
		return p.await(ctx, process, ports)
	}
}

func (p program) writeConfig(file string, s setting) error {
	form, err := template.New(p.name).Parse(p.config)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := form.Execute(&text, s); err != nil {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

// await returns when the program serves.
func (p program) await(ctx context.Context, process *process, ports []string) (*peer, error) {
	one := &peer{address: ports[0], prefixes: []string{""}, process: process}
	if p.counters {
		one.counters = "http://" + ports[1] + "/metrics"
	}
	url := "http://" + one.address + workloads[0].path()
	if p.health != "" {
		url = "http://" + ports[1] + p.health
	}
	err := awaitReady(ctx, process, url, readyPoll)
	if err == nil {
		err = p.adopt(process)
	}
	if err != nil {
		one.stop()
		return nil, err
	}
	return ready(one)
}

// adopt waits for all workers: the first may serve before the second is there.
func (p program) adopt(process *process) error {
	for range 200 {
		if err := process.adopt(); err != nil || len(process.workers) == p.workers {
			return err
		}
		time.Sleep(readyPoll)
	}
	return fmt.Errorf("it has %d workers, want %d", len(process.workers), p.workers)
}

// nginxConfig holds a request's body in memory and its answer in buffers, as is the default, but never in a file. As
// root, its workers need leave to reach Dir.
const nginxConfig = `{{if .AsRoot}}user root;{{end}}
worker_processes {{.Processes}};
worker_rlimit_nofile {{.Files}};
error_log stderr error;
pid {{.Dir}}/pid;
events { worker_connections {{.Files}}; }
http {
	access_log off;
	keepalive_timeout 300s;
	keepalive_requests 1000000000;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	client_body_buffer_size 128k;
	proxy_max_temp_file_size 0;
	upstream up {
		server {{.Upstream}};
		keepalive {{.IdleConns}};
		keepalive_timeout 300s;
		keepalive_requests 1000000000;
	}
	server {
		listen {{.Listen}} reuseport backlog=4096;
		location / {
			proxy_pass http://up;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering {{if .Streams}}off{{else}}on{{end}};
		}
	}
}
`

// haproxyConfig keeps idle connections to the upstream however many files are open: beyond the share of maxconn that
// is the default it opens one for each request. Streams have http-no-delay: without it an event waits for the next.
const haproxyConfig = `global
	nbthread {{.Processes}}
	maxconn {{.Connections}}
	tune.pool-low-fd-ratio 100
	tune.pool-high-fd-ratio 100
defaults
	mode http
	maxconn {{.Connections}}
	backlog 4096
	timeout connect 10s
	timeout client 300s
	timeout server 300s
	timeout http-keep-alive 300s
	http-reuse always
	{{if .Streams}}option http-no-delay{{end}}
frontend clients
	bind {{.Listen}}
	default_backend up
backend up
	server up {{.Upstream}} pool-purge-delay 300s
`

const vmauthConfig = `unauthorized_user:
  url_prefix: http://{{.Upstream}}/
`

const traefikConfig = `http:
  routers:
    all:
      rule: PathPrefix(` + "`/`" + `)
      service: up
  services:
    up:
      loadBalancer:
        servers:
          - url: http://{{.Upstream}}
`

const caddyConfig = `{
	admin {{.Admin}}
	auto_https off
	persist_config off
	log {
		level ERROR
	}
}
http://{{.Listen}} {
	reverse_proxy {{.Upstream}} {
		{{if .Streams}}flush_interval -1{{end}}
		transport http {
			compression off
			dial_timeout 10s
			keepalive 300s
			keepalive_idle_conns {{.IdleConns}}
			keepalive_idle_conns_per_host {{.IdleConns}}
		}
	}
}
`
