#!/usr/bin/env bash
# `make run` under the name that the old documentation gives.
exec make --silent --directory "$(dirname "$0")" run
