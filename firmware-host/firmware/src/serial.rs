//! Words and numbers over the board's UART.

use crate::board;

/// Sends text.
pub fn text(text: &str) {
    text.bytes().for_each(board::send);
}

/// Sends words, separated by blanks, and ends the line.
pub fn line(words: &[&str]) {
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text(" ");
        }
        text(word);
    }
    text("\n");
}

/// Sends ` name=` and a number in decimal.
pub fn number(name: &str, value: usize) {
    text(" ");
    text(name);
    text("=");
    let mut power = 1_000_000_000;
    while power > value && power > 1 {
        power /= 10;
    }
    while power > 0 {
        digit((value / power) % 10);
        power /= 10;
    }
}

/// Sends ` name=` and eight hexadecimal digits.
pub fn hex(name: &str, value: u32) {
    text(" ");
    text(name);
    text("=");
    for nibble in (0..8).rev() {
        digit((value >> (4 * nibble)) as usize & 15);
    }
}

fn digit(value: usize) {
    let value = (value & 15) as u8;
    board::send(if value < 10 { b'0' + value } else { b'a' - 10 + value });
}
