package objects

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// OptionNames are the settings of an object store in a policy file, in the
// order in which they are documented.
func OptionNames() []string {
	return []string{"endpoint", "region", "path_style", "profile", "access_key", "secret_key", "session_token",
		"buckets", "inventory", "uploads", "timeout", "attempts", "concurrency"}
}

// ParseOptions reads the settings of an object store as a policy file spells
// them. An empty value means that the setting is not given. The error names
// the setting and never its value.
func ParseOptions(m map[string]string) (Options, error) {
	var o Options
	for name, v := range m {
		if v == "" {
			continue
		}
		if err := o.set(name, v); err != nil {
			return Options{}, fmt.Errorf("option %s: %w", name, err)
		}
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return Options{}, fmt.Errorf("option access_key: access_key and secret_key go together")
	}
	return o, nil
}

func (o *Options) set(name, v string) error {
	switch name {
	case "endpoint":
		u, err := url.Parse(v)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("not an http or https URL")
		}
		o.Endpoint = v
	case "region":
		o.Region = v
	case "path_style":
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("neither true nor false")
		}
		o.Addressing = AddressHost
		if on {
			o.Addressing = AddressPath
		}
	case "profile":
		o.Profile = v
	case "access_key":
		o.AccessKey = v
	case "secret_key":
		o.SecretKey = v
	case "session_token":
		o.SessionToken = v
	case "buckets":
		o.Buckets = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
	case "inventory":
		o.Inventory = v
	case "uploads":
		if v != "none" {
			return fmt.Errorf(`only "none" is known`)
		}
		o.NoUploads = true
	case "timeout":
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("not a positive duration such as 30s")
		}
		o.Timeout = d
	case "attempts":
		return positive(v, &o.Attempts)
	case "concurrency":
		return positive(v, &o.Concurrency)
	default:
		return fmt.Errorf("no such setting of an object store")
	}
	return nil
}

func positive(v string, into *int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("not a number from 1 to 1000")
	}
	*into = n
	return nil
}
