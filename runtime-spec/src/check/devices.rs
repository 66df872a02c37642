//! Rules for `linux.devices` and `linux.resources.devices`.
//!
//! Needs no kernel.
use std::collections::HashMap;

use super::Context;
use super::lists::check_absolute;
use crate::node::Node;
use crate::problem::quote;
use crate::rules;

/// The devices every container has anyway, with their numbers (`Documentation/admin-guide/devices.txt`).
const DEFAULTS: [(&str, i128, i128); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// `MINORBITS` is 20, which leaves 12 bits for the major number of a file's device (`linux/kdev_t.h`).
const MAJORS: i128 = 1 << 12;
const MINORS: i128 = 1 << 20;

pub(super) fn check(context: &mut Context<'_>) {
    let Some(linux) = context.root.get("linux") else {
        return;
    };
    let mut seen = HashMap::new();
    for device in linux.list("devices") {
        numbers(context, &device);
        path(context, &device);
        let key = ["type", "major", "minor"].map(|name| device.member(name).value.to_string());
        let Some(path) = device.text_at("path") else {
            continue;
        };
        match seen.insert(path, key.clone()) {
            Some(before) if before != key => {
                let message = format!("{} is listed twice, as different devices", quote(path));
                context.error(&device.member("path"), rules::DEVICES, message);
            }
            Some(_) => {
                let message = format!("{} is listed twice", quote(path));
                context.warning(&device.member("path"), rules::DEVICES, message);
            }
            None => {}
        }
    }
    if let Some(resources) = linux.get("resources") {
        for entry in resources.list("devices") {
            access(context, &entry);
        }
    }
}

fn numbers(context: &mut Context<'_>, device: &Node<'_>) {
    let fifo = device.text_at("type") == Some("p");
    for (name, count) in [("major", MAJORS), ("minor", MINORS)] {
        let node = device.member(name);
        match node.integer() {
            None if !fifo && node.value.is_null() => {
                context.error(&node, rules::DEVICES, "must be given unless the type is p");
            }
            Some(number) if !fifo && !(0..count).contains(&number) => {
                context.error(&node, rules::DEVICES, format!("must be from 0 to {}", count - 1));
            }
            _ => {}
        }
    }
    // Engines give the whole `st_mode`, with the bits that tell the type of a file (inode(7)).
    if device.integer_at("fileMode").is_some_and(|mode| mode & !0o170_777 != 0) {
        let message =
            "must have no bits but those of 511, which is 0777, and of the file's type (JSON numbers are decimal)";
        context.error(&device.member("fileMode"), rules::DEVICES, message);
    }
}

fn path(context: &mut Context<'_>, device: &Node<'_>) {
    let node = device.member("path");
    check_absolute(context, &node, rules::DEVICES);
    let text = node.text().unwrap_or_default();
    if text.split('/').any(|part| part == "..") {
        context.error(&node, rules::DEVICES, "must not have a .. in it");
    }
    let Some((_, major, minor)) = DEFAULTS.iter().find(|(path, ..)| *path == text) else {
        return;
    };
    let numbers = ["major", "minor"].map(|name| device.integer_at(name));
    if device.text_at("type") != Some("c") || numbers != [Some(*major), Some(*minor)] {
        let message = format!("{text} is the character device {major}:{minor} in every container");
        context.error(&node, rules::DEFAULT_DEVICES, message);
    }
}

fn access(context: &mut Context<'_>, entry: &Node<'_>) {
    let node = entry.member("access");
    if let Some(text) = node.text() {
        let known = text.chars().all(|c| "rwm".contains(c));
        let twice = "rwm".chars().any(|c| text.matches(c).count() > 1);
        if !known || twice {
            let message = format!("must be made of r, w and m, is {}", quote(text));
            context.error(&node, rules::DEVICE_RULES, message);
        } else if text.is_empty() {
            context.warning(&node, rules::DEVICE_RULES, "is empty, so the entry does nothing");
        }
    }
    let all = !matches!(entry.text_at("type"), Some("b" | "c"));
    for (name, count) in [("major", 1 << 32), ("minor", 1 << 32)] {
        let node = entry.member(name);
        let Some(number) = node.integer() else {
            continue;
        };
        // -1 is what other runtimes write for "all".
        if !(-1..count).contains(&number) {
            context.error(&node, rules::DEVICE_RULES, "must be from 0 to 4294967295, or -1 for all");
        } else if all && number != -1 {
            let message = "has no effect, as the type is a: the entry is for all devices";
            context.warning(&node, rules::DEVICE_RULES, message);
        }
    }
}
