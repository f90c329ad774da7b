package main

import (
	"fmt"
	"slices"
	"strings"
)

// foreignKeys are the keys of a Bifrost config.json that Edge does not have, by the name of the object they stand in
// (shape.name). They are ignored with all that is inside; one warning names them all. From Bifrost's published schema,
// 2026-04.
var foreignKeys = map[string][]string{
	"document": {
		"$schema", "encryption_key", "auth_config", "framework", "governance", "mcp", "vector_store", "config_store",
		"logs_store", "cluster_config", "saml_config", "load_balancer_config", "guardrails_config", "audit_logs",
		"large_payload_optimization", "websocket",
	},
	"client": {
		"prometheus_labels", "allowed_origins", "enable_logging", "disable_content_logging", "disable_db_pings_in_health",
		"log_retention_days", "enforce_governance_header", "enforce_auth_on_inference", "enforce_scim_auth",
		"allow_direct_keys", "enable_litellm_fallbacks", "header_filter_config", "async_job_result_ttl",
		"required_headers", "logging_headers", "hide_deleted_virtual_keys_in_filters", "allowed_headers",
		"mcp_agent_depth", "mcp_tool_execution_timeout", "mcp_code_mode_binding_level", "mcp_tool_sync_interval",
	},
	"provider": {
		"proxy_config", "send_back_raw_request", "send_back_raw_response", "store_raw_request_response",
		"custom_provider_config", "pricing_overrides",
	},
	"network_config": {"insecure_skip_verify", "beta_header_overrides"},
	"key": {
		"use_for_batch_api", "blacklisted_models", "id", "azure_key_config", "vertex_key_config",
		"bedrock_key_config", "vllm_key_config",
	},
}

// laterKeys are the keys that a later version of Edge has, by the object they stand in. Empty they are accepted.
var laterKeys = map[string][]string{
	"document": {"cluster"},
}

const notYet = "not in this version of Edge"

// later reads a key of a later version; what is not empty in it is refused.
func (r *reading) later(path []string, n *node) {
	switch {
	case path[len(path)-1] == "cluster" && n.kind == isObject:
		for _, m := range n.members {
			switch at := append(slices.Clip(path), m.key); {
			case m.key != "redis_url":
				r.fail(m.at, at, "", "unknown key"+didYouMean(m.key, []string{"redis_url"}))
			case !empty(m.value):
				r.fail(m.value.at, at, "", notYet)
			}
		}
	case !empty(n):
		r.fail(n.at, path, "", notYet)
	}
}

func empty(n *node) bool {
	return n.kind == isNull || n.kind == isString && n.text == "" ||
		n.kind == isArray && len(n.items) == 0 || n.kind == isObject && len(n.members) == 0
}

// foreignPlugin reports whether an element of plugins is Bifrost's: it says whether it is enabled, or its path is not
// where a WASM plugin can be. A path that is in a variable which is not set is taken for one, so that it is a fault.
func (r *reading) foreignPlugin(n *node) bool {
	if n.kind != isObject {
		return false
	}
	path := ""
	for _, m := range n.members {
		switch m.key {
		case "enabled":
			return true
		case "path":
			path = m.value.text
		}
	}
	if match := reference.FindStringSubmatch(path); match != nil {
		if path = r.environ[match[1]]; path == "" {
			return false
		}
	}
	return !strings.HasSuffix(path, ".wasm") && !strings.HasPrefix(path, "https://") && !strings.HasPrefix(path, "oci://")
}

const namedMost = 40 // how many names one warning has

// ignoredWarning names the ignored keys in one line, or returns nothing when there are none.
func ignoredWarning(paths []string) string {
	paths = slices.Compact(slices.Sorted(slices.Values(paths)))
	if len(paths) == 0 {
		return ""
	}
	return "ignored, since they are Bifrost's and not Edge's: " + listed(paths)
}

// listed writes names as a warning has them.
func listed(names []string) string {
	more := ""
	if n := len(names) - namedMost; n > 0 {
		names, more = names[:namedMost], fmt.Sprintf(" and %d more", n)
	}
	return graphic(strings.Join(names, ", ")) + more
}
