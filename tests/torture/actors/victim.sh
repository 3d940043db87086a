#!/bin/sh
# The script that is tortured: `victim.sh DIR NAME`. A shell shares no memory, so each life is a line of 32
# bytes in DIR/NAME.begun, and the last answer is in DIR/NAME.pong.
exec 3<>"$1/$2.fifo"
printf '%-15s %-15s\n' "$REFRAIN_LIFE" "$$" >>"$1/$2.begun"
while :; do
    read -r letter number <&3 || exit 9
    case $letter in
    p) echo "$number" >"$1/$2.pong" ;;
    s) kill -SEGV $$ ;;
    b) kill -BUS $$ ;;
    f) kill -FPE $$ ;;
    i) kill -ILL $$ ;;
    a) kill -ABRT $$ ;;
    k) kill -KILL $$ ;;
    x) exit 0 ;;
    y) exit 3 ;;
    esac
done
