/* main.c - the entry of the program. */
int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return 0;
}
